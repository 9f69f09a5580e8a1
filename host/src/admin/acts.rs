//! Acts of operators as requests: a short one has one answer, a long one tells line by line how far it is and ends with its
//! answer or with what went wrong.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::Duration;

use aral_contract::{Clock, Code, Failure, SecretBuffer};
use aral_protocol::Problem;
use aral_protocol::admin::BODY_BYTES_MAX;
use aral_runtime::files;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::{Managed, Management, announced, answer, blocking, parse};
use crate::operator::{Act, ActProgress, Hidden, MemoryImport, Tell};

/// Lines that wait for whoever reads them, beside the last one. Beyond that an act waits with what it makes, and does not say how
/// far it is.
const LINES_MAX: usize = 16;
/// How long an act waits until a line of what it makes is taken. Stops a watcher that stands from holding what the act holds: while
/// a backup is made, no key of the store is rotated and no epoch of it ends.
const STANDS_MAX: Duration = Duration::from_secs(60);
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// Longest first line of an import: a private key, and what stands around it.
const IMPORT_LINE_BYTES_MAX: usize = 16 << 10;

/// An act with one answer.
pub(super) fn short<A: Act>(routes: Router<Arc<Management>>) -> Router<Arc<Management>> {
    let handler = |State(managed): Managed, request: Request| async move {
        let act: A = parse(&whole(request).await?)?;
        let operator = managed.operator();
        blocking(&managed, move || Ok(answer(&operator.act(act)?))).await
    };
    routes.route(A::PATH, post(handler))
}

/// An act that tells of its progress.
pub(super) fn long<A: Act>(routes: Router<Arc<Management>>) -> Router<Arc<Management>> {
    let handler = |State(managed): Managed, request: Request| async move {
        let act: A = parse(&whole(request).await?)?;
        let operator = managed.operator();
        let (clock, ending) = (managed.host.clock(), managed.ending.clone());
        Ok::<_, Problem>(told(clock, STANDS_MAX, ending, move |tell| act.act(&operator, tell)))
    };
    routes.route(A::PATH, post(handler))
}

/// The body of a request. It may hold a key or a secret: it is erased when dropped, and leaves nothing where it grew.
pub(super) async fn whole(request: Request) -> Result<SecretBuffer, Problem> {
    let mut whole = SecretBuffer::with_capacity(announced(&request).unwrap_or(0).min(BODY_BYTES_MAX));
    let mut body = request.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| cut_off())?;
        if whole.len().saturating_add(piece.len()) > BODY_BYTES_MAX {
            return Err(Problem::body_too_large(BODY_BYTES_MAX));
        }
        whole.extend(&piece);
    }
    Ok(whole)
}

/// Reads a backup. It is kept on the disk of the store until it is read, sealed as it is.
pub(super) async fn import(State(managed): Managed, request: Request) -> Result<Response, Problem> {
    let operator = managed.operator();
    let memory = operator.storage().memory()?.clone();
    let dir = memory.dir.clone();
    let make = move || files::open_root(&dir).and_then(|folder| files::unnamed(&folder));
    let made = tokio::task::spawn_blocking(make).await.map_err(Failure::internal)?;
    let mut file = made.map_err(|error| Failure::new(Code::Unavailable, error.to_string()))?;
    let mut line = FirstLine::new();
    let mut body = request.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| cut_off())?;
        let rest = line.take(piece)?;
        let written = tokio::task::spawn_blocking(move || {
            let done = file.write_all(&rest).and_then(|()| Ok(rustix::fs::fstatvfs(&file)?));
            (file, done)
        });
        let done;
        (file, done) = written.await.map_err(Failure::internal)?;
        let disk =
            done.map_err(|error| Failure::new(Code::Unavailable, format!("the backup cannot be kept: {error}")))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < memory.free_bytes_min {
            let words = format!("the disk has {free} bytes free, less than {}", memory.free_bytes_min);
            return Err(Failure::new(Code::Unavailable, words).into());
        }
    }
    if !line.is_whole {
        return Err(cut_off().into());
    }
    let act: MemoryImport = parse(&line.bytes)?;
    let (clock, ending) = (managed.host.clock(), managed.ending.clone());
    Ok(told(clock, STANDS_MAX, ending, move |tell| {
        let mut file = file;
        file.seek(SeekFrom::Start(0)).map_err(Failure::internal)?;
        act.act(&operator, &mut std::io::BufReader::new(file), tell)
    }))
}

/// The first line of an import. It holds a key and does not move: what it grew out of would hold a part of that.
struct FirstLine {
    bytes: SecretBuffer,
    is_whole: bool,
}

impl FirstLine {
    fn new() -> Self {
        Self {
            bytes: SecretBuffer::with_capacity(IMPORT_LINE_BYTES_MAX),
            is_whole: false,
        }
    }

    /// Takes what belongs to it, and returns what stands behind it.
    fn take(&mut self, mut piece: Bytes) -> Result<Bytes, Failure> {
        if self.is_whole {
            return Ok(piece);
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let after = piece.split_off(end.unwrap_or(piece.len()));
        if self.bytes.len().saturating_add(piece.len()) > IMPORT_LINE_BYTES_MAX {
            let words = format!("the first line of the request has more than {IMPORT_LINE_BYTES_MAX} bytes");
            return Err(Failure::new(Code::InputTooLarge, words));
        }
        self.bytes.extend(&piece);
        self.is_whole = end.is_some();
        Ok(after.slice(usize::from(self.is_whole)..))
    }
}

fn cut_off() -> Failure {
    Failure::new(Code::RequestInvalid, "the request ends too early")
}

/// Runs an act and answers with what it tells, line by line.
fn told<T: Serialize>(
    clock: Arc<dyn Clock>,
    stands_max: Duration,
    ending: watch::Receiver<bool>,
    act: impl FnOnce(Tell<'_>) -> Result<T, Failure> + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel::<Bytes>(LINES_MAX.saturating_add(1));
    // How it ended is there for whoever reads on, however late, and waits for nobody.
    let last_place = sender.clone().try_reserve_owned();
    let mut lines = Lines {
        sender: Some(sender),
        stands_max,
        runtime: Handle::current(),
        ending,
        clock,
        last: None,
    };
    tokio::task::spawn_blocking(move || {
        let line = match act(&mut |told: ActProgress| lines.tell(told)) {
            Ok(answer) => json!({ "answer": answer }),
            Err(failure) => {
                if let Some(detail) = &failure.internal {
                    tracing::error!(%detail, "an act of an operator failed");
                }
                json!({ "error": { "code": failure.code, "detail": failure.message, "hint": failure.hint } })
            }
        };
        if let Ok(place) = last_place {
            let _sender = place.send(text(&line));
        }
    });
    let lines = futures::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), receiver))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// What an act says, on its way to whoever reads it.
struct Lines {
    /// None: nobody takes any more.
    sender: Option<mpsc::Sender<Bytes>>,
    stands_max: Duration,
    runtime: Handle,
    /// Whether the act is to end. It is under way as long as this is there.
    ending: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
    /// When it was told last how far it is.
    last: Option<Duration>,
}

impl Lines {
    fn tell(&mut self, told: ActProgress) -> Result<(), Failure> {
        if *self.ending.borrow() {
            return Err(Failure::new(Code::Unavailable, "the server ends"));
        }
        let sender = self.sender.as_ref().ok_or_else(unheard)?;
        let is_heard = match told {
            ActProgress::Data(bytes) => {
                let line = text(&json!({ "data": Hidden::new(bytes.into()) }));
                let sent = self.runtime.block_on(sender.send_timeout(line, self.stands_max));
                sent.is_ok()
            }
            ActProgress::Progress { done, total } => {
                let now = self.clock.elapsed();
                if self.last.is_some_and(|last| now.saturating_sub(last) < TOLD_EVERY) {
                    return Ok(());
                }
                self.last = Some(now);
                let line = text(&json!({ "progress": { "done": done, "total": total } }));
                // Nobody needs each of them.
                !matches!(sender.try_send(line), Err(TrySendError::Closed(_)))
            }
        };
        if is_heard {
            return Ok(());
        }
        // Nothing may follow on a piece that is missing, and nothing waits once more.
        self.sender = None;
        Err(unheard())
    }
}

fn text(line: &Value) -> Bytes {
    format!("{line}\n").into()
}

fn unheard() -> Failure {
    Failure::new(Code::Cancelled, "nobody takes any more of what it makes")
}

#[cfg(test)]
mod tests;
