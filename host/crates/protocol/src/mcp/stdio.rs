//! MCP on standard input and output: one message a line, for a client that started this process. Nothing else is written there.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aral_contract::{Code, Failure};
use aral_orchestration::{Dispatcher, Session};
use aral_runtime::entropy;
use futures::{SinkExt, StreamExt as _};
use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _, GetMeta as _, ServerJsonRpcMessage};
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
use super::under_way::{UnderWay, answered};
use crate::bounds::{self, Bounds};
use crate::meters;
use crate::places::Places;
use crate::request_place::RequestPlace;
use crate::unsent::{Unsent, Weight};

/// How long the end of a conversation waits for a client that does not read. Stops such a client from keeping this process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Knows the one path of the moment.
pub trait Paths: Send + Sync + std::fmt::Debug {
    /// The one path under the rules that hold now, and this session under the issue of its persona that holds with them.
    fn in_force(&self, session: &Session) -> (Arc<Dispatcher>, Session);
}

/// What a conversation leads to.
#[derive(Debug)]
pub struct StdioParts {
    /// The one path, at each request anew.
    pub paths: Arc<dyn Paths>,
    /// For whom calls are made, under whichever issue of the persona holds.
    pub session: Session,
    /// What it bears: of these, the size of a message (`body_bytes_max`), how long a call may take (`handler_ms`), and as for one caller
    /// how many requests are under way (`requests_per_caller_max`) and what their answers take (`unsent_bytes_per_caller_max`).
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
    /// Somebody may read the answers, and one of them could not be written: a disk is full, for one thing.
    #[error("the answers cannot be written: {0}")]
    Output(io::Error),
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

/// Answers until the other side ends its input or `stop` ends; then calls that are under way have a moment to end. While a refusal
/// waits for a client that does not read, no input is read, and its end is not seen.
///
/// # Errors
/// See [`StdioError`]. An input that ends before anything was said is none, nor is an output that nobody reads.
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
    let lines = Lines::new(input, output, parts.bounds.clone());
    let news = News::new(parts.changes);
    let unwritten = Arc::clone(&lines.unwritten);
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
            Err(ServerInitializeError::TransportError { error, .. }) => {
                tracing::debug!(%error, "an answer was not written");
                Ok(())
            }
            Err(error) => Err(StdioError::Protocol(Box::new(error))),
        }
    };
    let mut conversation = std::pin::pin!(conversation);
    let done = tokio::select! {
        done = &mut conversation => Some(done),
        () = stop => None,
    };
    let done = match done {
        Some(done) => done,
        None => {
            draining.cancel();
            ended.cancel();
            conversation.await
        }
    };
    match unwritten.get() {
        Some(error) => Err(StdioError::Output(like(error))),
        None => done,
    }
}

/// Why the first answer was not written that somebody may miss. The library keeps what it is told of that to itself.
type Unwritten = Arc<OnceLock<io::Error>>;

/// A client that has gone misses nothing.
fn note(unwritten: &OnceLock<io::Error>, error: &io::Error) {
    let is_gone = matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    );
    if !is_gone {
        let _others_came_first = unwritten.set(like(error));
    }
}

fn like(error: &io::Error) -> io::Error {
    let code = error.raw_os_error();
    code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
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
    bounds: Bounds,
    /// For the requests that have no answer yet.
    places: Places,
    under_way: UnderWay,
    /// What their answers take: those to the one caller that there is, which are all.
    unsent: [Unsent; 2],
    /// Whether the client has said `initialize`. A second one would change what is spoken.
    begun: bool,
    /// The answer to a line that was no message, or to a request that was refused, until it is written. Reading may be given up at any time and begun anew.
    owed: Option<Owed>,
    unwritten: Unwritten,
}

enum Owed {
    Line(String),
    Flush,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Lines<R, W> {
    fn new(input: R, output: W, bounds: Bounds) -> Self {
        let line = LinesCodec::new_with_max_length(bounds::size(bounds.body_bytes_max));
        Self {
            read: FramedRead::new(input, Bounded(line)),
            write: Arc::new(Mutex::new(FramedWrite::new(output, LinesCodec::new()))),
            places: Places::new(bounds::size(bounds.requests_per_caller_max)),
            under_way: UnderWay::default(),
            unsent: Default::default(),
            bounds,
            begun: false,
            owed: None,
            unwritten: Unwritten::default(),
        }
    }

    /// Why a message has no place any more; none: it has.
    fn again(&mut self, message: &ClientJsonRpcMessage) -> Option<Fault> {
        let fault = Fault::begun(message)?;
        std::mem::replace(&mut self.begun, true).then_some(fault)
    }

    /// The message of a line; none: it is about a request that has its answer.
    fn hear(&mut self, line: &str) -> Result<Option<ClientJsonRpcMessage>, Fault> {
        let read = message::read(line.as_bytes())?;
        if let Some(fault) = self.again(&read.message).or_else(|| Fault::unknown(&read.message)) {
            return Err(fault);
        }
        if !self.under_way.takes(&read.message) {
            return Ok(None);
        }
        let mut message = read.carrying();
        if let ClientJsonRpcMessage::Request(request) = &mut message {
            let id = request.id.clone();
            let place = self.place().map_err(|failure| Fault::full(id.clone(), &failure))?;
            let token = request.request.get_meta().get_progress_token();
            let begun = self.under_way.begin(&id, token, Some(place.clone()), None);
            begun.ok_or_else(|| Fault::twice(id))?;
            request.request.extensions_mut().insert(place);
        }
        Ok(Some(message))
    }

    /// A place for one more request, and for its answer until that is written.
    fn place(&self) -> Result<RequestPlace, Failure> {
        let max = self.bounds.requests_per_caller_max;
        let permit = self.places.try_take().ok_or_else(|| {
            meters::rate_limited("requests_per_caller_max");
            Failure::new(Code::Unavailable, format!("{max} requests are under way"))
                .with_hint(bounds::raise("requests_per_caller_max", max))
        })?;
        let [all, own] = &self.unsent;
        let weight = Weight::new(all, &self.bounds);
        weight.owned(own)?;
        Ok(RequestPlace::new(permit, weight))
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
        let under_way = self.under_way.clone();
        let answers = answered(&message).and_then(|id| under_way.answer(id));
        let is_late = under_way.is_late(&message);
        let unwritten = Arc::clone(&self.unwritten);
        async move {
            if is_late {
                return Ok(());
            }
            let line = serde_json::to_string(&message);
            // From now on it is text.
            drop(message);
            if let (Some(answers), Ok(line)) = (&answers, &line) {
                under_way.lighten(answers, u64::try_from(line.len()).unwrap_or(u64::MAX));
            }
            match line {
                Ok(line) => {
                    let mut write = write.lock().await;
                    // Whoever reads it may use its id at once. What it occupies is there until it is written.
                    let _place = answers.as_ref().and_then(|answers| under_way.end(answers));
                    let sent = write.send(line).await.map_err(plain);
                    sent.inspect_err(|error| note(&unwritten, error))
                }
                Err(error) => {
                    answers.as_ref().and_then(|answers| under_way.end(answers));
                    Err(error.into())
                }
            }
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Err(error) = self.pay().await.map_err(plain) {
                tracing::debug!(%error, "an answer was not written");
                note(&self.unwritten, &error);
                return None;
            }
            let fault = match self.read.next().await? {
                Ok(Ok(line)) if line.trim().is_empty() => continue,
                Ok(Ok(line)) => match self.hear(&line) {
                    Ok(Some(message)) => return Some(message),
                    Ok(None) => continue,
                    Err(fault) => fault,
                },
                Ok(Err(Unread::TooLong)) => Fault::too_long(bounds::size(self.bounds.body_bytes_max)),
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
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::sync::oneshot;

    use super::*;
    use crate::tests::{newest, path};

    /// The one path, which stays.
    #[derive(Debug)]
    struct One(Arc<Dispatcher>);

    impl Paths for One {
        fn in_force(&self, session: &Session) -> (Arc<Dispatcher>, Session) {
            (Arc::clone(&self.0), session.clone())
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

    /// The line of a request.
    fn request(id: u64, method: &str, params: Value) -> String {
        let (_fields, body) = newest(method, params);
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["id"] = json!(id);
        format!("{body}\n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_ends_though_nobody_reads_its_answers() {
        for by_signal in [true, false] {
            let (client, input) = tokio::io::duplex(1 << 16);
            let (output, _unread) = tokio::io::duplex(16);
            let (stop, stopped) = oneshot::channel::<()>();
            let (mut client, mut stop) = (Some(client), Some(stop));
            let (parts, _changed) = parts(Bounds::default());
            let serving = serve_stdio(parts, input, output, async {
                let _ = stopped.await;
            });
            let ending = async {
                let line = request(1, "tools/list", json!({}));
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

    /// Takes nothing, and says why.
    struct Refusing(io::ErrorKind);

    impl AsyncWrite for Refusing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(self.0.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_finds_no_room_is_told_and_one_that_nobody_waits_for_is_not() {
        let listed = request(1, "tools/list", json!({}));
        for line in [listed.as_str(), "no message\n"] {
            for (kind, is_told) in [
                (io::ErrorKind::StorageFull, true),
                (io::ErrorKind::BrokenPipe, false),
                (io::ErrorKind::ConnectionReset, false),
            ] {
                let (mut client, input) = tokio::io::duplex(1 << 16);
                client.write_all(line.as_bytes()).await.unwrap();
                let (parts, _changed) = parts(Bounds::default());
                let serving = serve_stdio(parts, input, Refusing(kind), std::future::pending());
                let leaving = async {
                    // Time passes only while everybody waits: the answer was to be written.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(client);
                };
                let serving = tokio::time::timeout(Duration::from_secs(60), serving);
                let (ended, ()) = tokio::join!(serving, leaving);
                let ended = ended.expect("it ends");
                let told = matches!(&ended, Err(StdioError::Output(error)) if error.kind() == kind);
                assert_eq!((told, ended.is_err()), (is_told, is_told), "{line}{kind}: {ended:?}");
            }
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

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_not_heard_for_ever() {
        let (mut client, input) = tokio::io::duplex(1 << 10);
        let (output, _unread) = tokio::io::duplex(16);
        let bounds = Bounds {
            requests_per_caller_max: 4,
            ..Bounds::default()
        };
        let (parts, _changed) = parts(bounds);
        let serving = serve_stdio(parts, input, output, std::future::pending());
        let asking = async {
            for id in 0..1_000 {
                let line = request(id, "tools/list", json!({}));
                client.write_all(line.as_bytes()).await.unwrap();
            }
        };
        tokio::select! {
            asked = tokio::time::timeout(Duration::from_secs(60), asking) => {
                assert!(asked.is_err(), "it takes whatever comes");
            }
            ended = serving => panic!("{ended:?}"),
        }
    }

    #[tokio::test]
    async fn requests_per_caller_max_is_how_many_requests_are_under_way() {
        for max in [2, 3] {
            let (mut client, input) = tokio::io::duplex(1 << 16);
            let (output, answers) = tokio::io::duplex(1 << 16);
            let bounds = Bounds {
                requests_per_caller_max: max,
                ..Bounds::default()
            };
            let (parts, _changed) = parts(bounds);
            let serving = serve_stdio(parts, input, output, std::future::pending());
            let asking = async {
                let mut lines = BufReader::new(answers).lines();
                let mut ask = async |line: String| {
                    client.write_all(line.as_bytes()).await.unwrap();
                    let line = lines.next_line().await.unwrap().expect("a line");
                    serde_json::from_str::<Value>(&line).unwrap()
                };
                for id in 1..=2 {
                    let told = ask(request(id, "subscriptions/listen", json!({ "notifications": {} }))).await;
                    assert_eq!(told["method"], "notifications/subscriptions/acknowledged", "{told}");
                }
                let answer = ask(request(3, "tools/list", json!({}))).await;
                assert_eq!(answer["id"], 3, "{answer}");
                if max == 3 {
                    assert!(answer["result"].is_object(), "{answer}");
                    let twice = ask(request(1, "tools/list", json!({}))).await;
                    assert_eq!((&twice["id"], &twice["error"]["code"]), (&json!(1), &json!(-32600)));
                    return;
                }
                let error = &answer["error"];
                assert_eq!(
                    (&error["code"], &error["data"]["code"]),
                    (&json!(-32603), &json!("host.unavailable"))
                );
                let words = error["message"].as_str().unwrap();
                assert!(words.ends_with("requests_per_caller_max = N, N above 2"), "{words}");
                // Whoever gives up gives the place back, once what was begun has ended.
                let cancelled =
                    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
                let mut first = format!("{cancelled}\n");
                for id in 4.. {
                    assert!(id < 10_000, "its place is given back");
                    first.push_str(&request(id, "tools/list", json!({})));
                    if ask(std::mem::take(&mut first)).await["result"].is_object() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = asking => {}
                ended = serving => panic!("{ended:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unsent_bytes_per_caller_max_is_what_answers_take_until_they_are_read() {
        for max in [1, 1 << 20] {
            let (mut client, input) = tokio::io::duplex(1 << 16);
            let (output, answers) = tokio::io::duplex(16);
            let bounds = Bounds {
                unsent_bytes_per_caller_max: max,
                ..Bounds::default()
            };
            let (parts, _changed) = parts(bounds);
            let serving = serve_stdio(parts, input, output, std::future::pending());
            let asking = async {
                for id in 1..=2 {
                    let line = request(id, "tools/list", json!({}));
                    client.write_all(line.as_bytes()).await.unwrap();
                    // Time passes only while everybody waits.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let mut lines = BufReader::new(answers).lines();
                let mut read = async || {
                    let line = lines.next_line().await.unwrap().expect("a line");
                    serde_json::from_str::<Value>(&line).unwrap()
                };
                let (first, second) = (read().await, read().await);
                assert!(first["result"].is_object(), "{first}");
                assert_eq!(second["id"], 2, "{second}");
                if max == 1 {
                    let words = second["error"]["message"].as_str().unwrap();
                    assert!(
                        words.ends_with("[serve.limits]: unsent_bytes_per_caller_max"),
                        "{words}"
                    );
                    let line = request(3, "tools/list", json!({}));
                    client.write_all(line.as_bytes()).await.unwrap();
                    let third = read().await;
                    assert!(third["result"].is_object(), "what was read takes nothing: {third}");
                } else {
                    assert!(second["result"].is_object(), "{second}");
                }
            };
            tokio::select! {
                () = asking => {}
                ended = serving => panic!("{ended:?}"),
            }
        }
    }
}
