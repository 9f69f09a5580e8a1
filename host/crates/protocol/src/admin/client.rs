//! The other end of the management socket, for verbs of the command line.

use std::path::Path;
use std::time::Duration;

use aral_contract::failure::chain;
use aral_contract::{Code, Failure, SecretBuffer, TraceId};
use aral_runtime::files::{self, FilesError};
use bytes::Bytes;
pub use http::Method;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{BODY_BYTES_MAX, is_ours};

/// How long the server may take for the first byte of an answer that is there at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Longest line of a long answer: a piece of a backup in base64, and what stands around it.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What to do about a file of a server that this user may not open.
pub const AS_ITS_USER: &str = "run this as the user that the server runs as: `sudo -u USER aral …`";

/// A connection to a server that runs.
#[derive(Debug)]
pub struct AdminClient {
    sender: SendRequest<AdminBody>,
}

/// The body of a request: a text, or a file piece by piece.
pub type AdminBody = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// A body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> AdminBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that comes piece by piece.
pub fn pieces(pieces: impl Iterator<Item = std::io::Result<Bytes>> + Send + Sync + 'static) -> AdminBody {
    let frames = pieces.map(|piece| piece.map(Frame::data));
    StreamBody::new(futures::stream::iter(frames)).boxed()
}

/// Whether a process of this user is taken for the server: one of ours, of root, or of whoever owns the folder, and so decides who
/// listens in it. Secrets go to nobody else.
pub(super) fn is_believed(server: u32, own: u32, folder_owner: u32) -> bool {
    is_ours(server, own) || server == folder_owner
}

impl AdminClient {
    /// Connects; none: no server of this socket runs.
    ///
    /// # Errors
    /// Somebody else listens there, this user may not go there, or the connection breaks.
    pub async fn connect(socket: &Path) -> Result<Option<Self>, Failure> {
        let connected = files::connect(socket).map_err(|error| not_reached(&error))?;
        let Some((stream, folder_owner)) = connected else {
            return Ok(None);
        };
        stream.set_nonblocking(true).map_err(broken)?;
        let stream = UnixStream::from_std(stream).map_err(broken)?;
        let server = stream.peer_cred().map_err(broken)?.uid();
        if !is_believed(server, files::user(), folder_owner) {
            return Err(Failure::new(
                Code::Unavailable,
                format!(
                    "user {server} listens on `{}`, and the folder is of user {folder_owner}",
                    socket.display()
                ),
            ));
        }
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the server ended");
            }
        });
        Ok(Some(Self { sender }))
    }

    /// Asks, and reads the answer as a whole. It goes straight to where it belongs: one that holds a secret leaves no copy.
    ///
    /// # Errors
    /// The failure that the server says; `host.unavailable` if it goes away.
    pub async fn ask<A: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: AdminBody,
    ) -> Result<A, Failure> {
        let answered = tokio::time::timeout(PATIENCE, self.send(method, path, body)).await;
        read(answered.map_err(|_| broken("it does not answer"))??).await
    }

    /// The same for what takes as long as it takes, and goes on in the server where nobody waits for it any more: whoever gave
    /// up would not know whether it was done.
    ///
    /// # Errors
    /// As [`AdminClient::ask`].
    pub async fn ask_patiently(&mut self, method: Method, path: &str, body: AdminBody) -> Result<Value, Failure> {
        read(self.send(method, path, body).await?).await
    }

    /// Asks, and hands each line of the answer on as it comes.
    ///
    /// # Errors
    /// As [`AdminClient::ask`], and what `line` fails with.
    pub async fn ask_long(
        &mut self,
        path: &str,
        body: AdminBody,
        line: &mut dyn FnMut(Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut body = self.send(Method::POST, path, body).await?;
        let mut unread: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            unread.extend_from_slice(&data);
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let rest = unread.split_off(end.saturating_add(1));
                let whole = std::mem::replace(&mut unread, rest);
                line(serde_json::from_slice(&whole).map_err(|_| broken("its answer is not understood"))?)?;
            }
            if unread.len() > LINE_BYTES_MAX {
                return Err(broken("its answer has no end"));
            }
        }
        if unread.is_empty() {
            Ok(())
        } else {
            Err(broken("its answer was cut off"))
        }
    }

    async fn send(&mut self, method: Method, path: &str, body: AdminBody) -> Result<Incoming, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(Failure::internal)?;
        let response = self.sender.send_request(request).await.map_err(broken)?;
        if response.status() == StatusCode::OK {
            return Ok(response.into_body());
        }
        let bytes = collect(response.into_body()).await?;
        let problem: Told = serde_json::from_slice(&bytes).map_err(|_| broken("its answer is not understood"))?;
        Err(problem.into())
    }
}

async fn read<A: DeserializeOwned>(body: Incoming) -> Result<A, Failure> {
    let bytes = collect(body).await?;
    serde_json::from_slice(&bytes).map_err(|error| match error.is_data() {
        true => other_version(),
        false => broken("its answer is not understood"),
    })
}

async fn collect(mut body: Incoming) -> Result<SecretBuffer, Failure> {
    let mut whole = SecretBuffer::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if whole.len().saturating_add(data.len()) > BODY_BYTES_MAX {
            return Err(broken("its answer has no end"));
        }
        whole.extend(&data);
    }
    Ok(whole)
}

/// What it answers is no answer to what it was asked.
pub fn other_version() -> Failure {
    Failure::new(
        Code::Unavailable,
        "the server that runs is of another version: its answer is not understood",
    )
}

/// A problem document, as far as it is understood.
#[derive(Debug, Deserialize)]
pub struct Told {
    code: String,
    detail: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    trace_id: Option<TraceId>,
}

impl From<Told> for Failure {
    fn from(told: Told) -> Self {
        let code = Code::ALL.iter().find(|code| code.as_str() == told.code);
        Self {
            hint: told.hint,
            trace: told.trace_id,
            ..Self::new(*code.unwrap_or(&Code::Internal), told.detail)
        }
    }
}

/// It is not known whether a server runs. Whoever took that for "none" would start another one.
pub fn not_reached(error: &FilesError) -> Failure {
    let message = format!("it cannot be found out whether a server runs: {}", chain(error));
    let failure = Failure::new(Code::Unavailable, message);
    if error.is_denied() {
        failure.with_hint(AS_ITS_USER)
    } else {
        failure
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(
        Code::Unavailable,
        format!("the server that runs cannot be talked to: {error}"),
    )
}
