//! MCP on standard input and output: one message a line, for a client that started this process. Nothing else is written there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aral_orchestration::{Dispatcher, Session};
use aral_runtime::entropy;
use futures::{SinkExt, StreamExt as _};
use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::service::{ServerInitializeError, serve_server_with_ct};
use rmcp::transport::{Transport, TransportAdapterIdentity};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, watch};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, FramedRead, FramedWrite, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;

use super::News;
use super::handler::{Handler, Local};
use super::message::{self, Fault};
use crate::bounds::{self, Bounds};

/// How long the end of a conversation waits for a client that does not read. Stops such a client from keeping this process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Knows the one path of the moment.
pub trait Paths: Send + Sync + std::fmt::Debug {
    /// The one path, under the rules that hold now.
    fn dispatcher(&self) -> Arc<Dispatcher>;
}

/// What a conversation leads to.
#[derive(Debug)]
pub struct StdioParts {
    /// The one path, at each request anew.
    pub paths: Arc<dyn Paths>,
    /// For whom calls are made.
    pub session: Session,
    /// What it bears: of these, the size of a message (`body_bytes_max`) and how long a call may take (`handler_ms`).
    pub bounds: Bounds,
    /// Changes when somebody may be able to call something else than before.
    pub changes: watch::Receiver<()>,
}

/// Why there was no conversation.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The other side speaks something else.
    #[error("the client does not speak MCP")]
    Protocol(#[source] Box<ServerInitializeError>),
    /// It ended otherwise than anybody wanted.
    #[error("the conversation broke off")]
    Broken(#[from] tokio::task::JoinError),
}

/// Standard input and output of this process. Needs a tokio runtime.
pub fn standard_streams() -> (
    impl AsyncRead + Unpin + Send + 'static,
    impl AsyncWrite + Unpin + Send + 'static,
) {
    rmcp::transport::stdio_pipes()
}

/// Answers until the other side ends its input or `stop` ends; then calls that are under way have a moment to end.
///
/// # Errors
/// See [`StdioError`]. An input that ends before anything was said is none.
pub async fn serve_stdio<R, W>(
    parts: StdioParts,
    input: R,
    output: W,
    stop: impl Future<Output = ()>,
) -> Result<(), StdioError>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let lines = Lines::new(input, output, bounds::size(parts.bounds.body_bytes_max));
    let news = News::new(parts.changes);
    let draining = news.draining.clone();
    let local = Local {
        session: parts.session,
        paths: parts.paths,
        bounds: parts.bounds,
    };
    let handler = Handler::local(news, local);
    let ended = CancellationToken::new();
    let conversation = async {
        let serving = serve_server_with_ct::<_, _, _, TransportAdapterIdentity>(handler, lines, ended.clone());
        match serving.await {
            Ok(running) => running.waiting().await.map(|_reason| ()).map_err(StdioError::from),
            Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
            Err(error) => Err(StdioError::Protocol(Box::new(error))),
        }
    };
    let mut conversation = std::pin::pin!(conversation);
    tokio::select! {
        done = &mut conversation => return done,
        () = stop => {}
    }
    draining.cancel();
    ended.cancel();
    conversation.await
}

type Writer<W> = Arc<Mutex<FramedWrite<W, LinesCodec>>>;

/// Lines of bounded length. What is no such line is one of its items: an error would end the reading.
struct Bounded(LinesCodec);

/// Why a line is none.
enum Unread {
    TooLong,
    NoText,
}

impl Bounded {
    fn item(decoded: Result<Option<String>, LinesCodecError>) -> io::Result<Option<Result<String, Unread>>> {
        Ok(match decoded {
            Ok(line) => line.map(Ok),
            Err(LinesCodecError::MaxLineLengthExceeded) => Some(Err(Unread::TooLong)),
            // What the codec itself says is that the bytes are no UTF-8.
            Err(LinesCodecError::Io(_)) => Some(Err(Unread::NoText)),
        })
    }
}

impl Decoder for Bounded {
    type Item = Result<String, Unread>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Self::item(self.0.decode(buffer))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Self::item(self.0.decode_eof(buffer))
    }
}

/// Messages as lines.
struct Lines<R, W> {
    read: FramedRead<R, Bounded>,
    write: Writer<W>,
    bytes_max: usize,
    /// Whether the client has said `initialize`. A second one would change what is spoken.
    begun: bool,
    /// The answer to a line that was no message, until it is written. Reading may be given up at any time and begun anew.
    owed: Option<Owed>,
}

enum Owed {
    Line(String),
    Flush,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Lines<R, W> {
    fn new(input: R, output: W, bytes_max: usize) -> Self {
        Self {
            read: FramedRead::new(input, Bounded(LinesCodec::new_with_max_length(bytes_max))),
            write: Arc::new(Mutex::new(FramedWrite::new(output, LinesCodec::new()))),
            bytes_max,
            begun: false,
            owed: None,
        }
    }

    /// Why a message has no place any more; none: it has.
    fn again(&mut self, message: &ClientJsonRpcMessage) -> Option<Fault> {
        let fault = Fault::begun(message)?;
        std::mem::replace(&mut self.begun, true).then_some(fault)
    }

    async fn pay(&mut self) -> Result<(), LinesCodecError> {
        if self.owed.is_none() {
            return Ok(());
        }
        let mut write = self.write.lock().await;
        if let Some(Owed::Line(line)) = &self.owed {
            // Given up before it is taken, it is taken the next time; nothing is given up between taking and knowing it.
            SinkExt::<String>::feed(&mut *write, line.clone()).await?;
            self.owed = Some(Owed::Flush);
        }
        SinkExt::<String>::flush(&mut *write).await?;
        self.owed = None;
        Ok(())
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let write = Arc::clone(&self.write);
        async move {
            let line = serde_json::to_string(&message)?;
            write.lock().await.send(line).await.map_err(plain)
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Err(error) = self.pay().await {
                tracing::debug!(%error, "nobody reads the answers");
                return None;
            }
            let fault = match self.read.next().await? {
                Ok(Ok(line)) if line.trim().is_empty() => continue,
                Ok(Ok(line)) => match message::read(line.as_bytes()) {
                    Ok(read) => match self.again(&read.message) {
                        None => return Some(read.carrying()),
                        Some(fault) => fault,
                    },
                    Err(fault) => fault,
                },
                Ok(Err(Unread::TooLong)) => Fault::too_long(self.bytes_max),
                Ok(Err(Unread::NoText)) => Fault::no_text(),
                Err(error) => {
                    tracing::debug!(%error, "the input cannot be read");
                    return None;
                }
            };
            let error = ServerJsonRpcMessage::Error(fault.error(entropy::trace_id()));
            self.owed = serde_json::to_string(&error).ok().map(Owed::Line);
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        // An answer that is not read keeps the lock, and the library gives the answer up only once this has returned.
        let closing = async {
            let mut write = self.write.lock().await;
            SinkExt::<String>::close(&mut *write).await.map_err(plain)
        };
        tokio::time::timeout(LAST_WORDS, closing).await?
    }
}

fn plain(error: LinesCodecError) -> io::Error {
    match error {
        LinesCodecError::Io(error) => error,
        LinesCodecError::MaxLineLengthExceeded => io::ErrorKind::InvalidData.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::sync::oneshot;

    use super::*;
    use crate::tests::{newest, path};

    /// The one path, which stays.
    #[derive(Debug)]
    struct One(Arc<Dispatcher>);

    impl Paths for One {
        fn dispatcher(&self) -> Arc<Dispatcher> {
            Arc::clone(&self.0)
        }
    }

    fn parts(bounds: Bounds) -> (StdioParts, watch::Sender<()>) {
        let (dispatcher, session) = path();
        let (changed, changes) = watch::channel(());
        let parts = StdioParts {
            paths: Arc::new(One(dispatcher)),
            session,
            bounds,
            changes,
        };
        (parts, changed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_ends_though_nobody_reads_its_answers() {
        for by_signal in [true, false] {
            let (client, input) = tokio::io::duplex(1 << 16);
            let (output, _unread) = tokio::io::duplex(64);
            let (stop, stopped) = oneshot::channel::<()>();
            let (mut client, mut stop) = (Some(client), Some(stop));
            let (parts, _changed) = parts(Bounds::default());
            let serving = serve_stdio(parts, input, output, async {
                let _ = stopped.await;
            });
            let ending = async {
                let (_fields, body) = newest("tools/list", json!({}));
                let line = format!("{body}\n");
                client.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
                // Time passes only while everybody waits: the answer is there, and nobody reads it.
                tokio::time::sleep(Duration::from_secs(1)).await;
                if by_signal {
                    drop(stop.take());
                } else {
                    drop(client.take());
                }
            };
            let serving = tokio::time::timeout(Duration::from_secs(60), serving);
            let (ended, ()) = tokio::join!(serving, ending);
            ended.expect("it ends").unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_told_of_a_call_comes_before_its_answer() {
        let (mut client, input) = tokio::io::duplex(1 << 16);
        let (output, answers) = tokio::io::duplex(1 << 16);
        let (parts, _changed) = parts(Bounds::default());
        let serving = serve_stdio(parts, input, output, std::future::pending());
        let asking = async {
            let (_fields, body) = newest("tools/call", json!({ "name": "none" }));
            let mut body: Value = serde_json::from_str(&body).unwrap();
            body["params"]["_meta"]["progressToken"] = json!("t");
            client.write_all(format!("{body}\n").as_bytes()).await.unwrap();
            let mut lines = BufReader::new(answers).lines();
            let mut messages = Vec::<Value>::new();
            while messages.last().is_none_or(|last| last["id"].is_null()) {
                let line = lines.next_line().await.unwrap().expect("a line");
                messages.push(serde_json::from_str(&line).unwrap());
            }
            drop(client);
            assert!(messages.len() > 1, "nothing was told: {messages:?}");
            assert_eq!(
                lines.next_line().await.unwrap(),
                None,
                "nothing comes behind the answer"
            );
        };
        let (ended, ()) = tokio::join!(serving, asking);
        ended.unwrap();
    }
}
