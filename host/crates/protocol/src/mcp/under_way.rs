//! The requests of one session, or of a conversation over standard input, that have no answer yet, by their ids. The library keeps
//! a channel for each until it sends an answer with its id; of two with one id it forgets the channel of the first, which then stays
//! as long as the session. Of two with one token it forgets the token with the first answer: the progress of the other is news then,
//! and whoever does not read those stops the session. And it drops an answer that nobody reads: such a one is kept here for a while.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ErrorData, JsonRpcError, ProgressToken, RequestId, ServerJsonRpcMessage,
    ServerNotification,
};
use rmcp::transport::streamable_http_server::session::ServerSseMessage;
use rmcp::transport::streamable_http_server::session::local::{LocalSessionWorker, LocalSessionWorkerError};
use rmcp::transport::{Transport, WorkerTransport};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::presence::Open;
use crate::request_place::RequestPlace;

/// How long an answer that nobody read waits for its client. Stops answers of clients that never come again from filling memory.
pub(super) const TAKE_UP: Duration = Duration::from_secs(30);

/// Answers of one session that wait so. They hold no places of requests: whoever comes for them needs one.
pub(super) const KEPT_MAX: usize = 16;

/// All of one session.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    begun: u64,
    of: HashMap<RequestId, Request>,
    /// Answers that nobody read, of which the oldest is first.
    kept: VecDeque<Kept>,
    /// From now on nothing is kept.
    draining: CancellationToken,
}

#[derive(Debug)]
struct Kept {
    channel: u64,
    answer: ServerSseMessage,
    /// What it weighs.
    place: RequestPlace,
    /// Its session is not silent while it waits.
    _open: Option<Open>,
    /// Takes it away in the end.
    _end: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Request {
    number: u64,
    /// What its progress is told by; none: nobody wants to know.
    token: Option<ProgressToken>,
    /// Its answer is on the way to the library, and nobody gives it up any more.
    is_answered: bool,
    /// The number of its channel, by which a client takes it up again; none: it is not open yet.
    channel: Option<u64>,
    /// What its answer occupies until the library has sent it, also where nobody reads it any more.
    place: Option<RequestPlace>,
    /// Whoever reads its channel now.
    reader: Weak<()>,
    /// Its session is not silent until it has ended, and is from then on; none: nobody asks.
    open: Option<Open>,
}

/// One of them. Another that has its id later is another one.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    id: RequestId,
    number: u64,
}

/// Somebody who reads what comes of a request, as long as this is there.
#[derive(Debug)]
pub(super) struct Reading {
    under_way: UnderWay,
    begun: Begun,
    _here: Arc<()>,
}

impl Reading {
    /// The answer is read.
    pub(super) fn end(&self) {
        self.under_way.end(&self.begun);
    }
}

/// What there is of a channel for somebody who takes it up again.
#[derive(Debug, Default)]
pub(super) struct TakenUp {
    /// The answer, if it came while nobody read.
    pub(super) kept: Option<ServerSseMessage>,
    /// The answer is still to come.
    pub(super) reading: Option<Reading>,
    /// The place that it has.
    pub(super) place: Option<RequestPlace>,
}

impl Requests {
    /// This one, if it has not ended.
    fn the(&mut self, begun: &Begun) -> Option<&mut Request> {
        let request = self.of.get_mut(&begun.id);
        request.filter(|request| request.number == begun.number)
    }
}

impl UnderWay {
    /// Of a session, which keeps no answers from when `draining` ends.
    pub(super) fn new(draining: CancellationToken) -> Self {
        let requests = Requests {
            draining,
            ..Requests::default()
        };
        Self(Arc::new(Mutex::new(requests)))
    }

    /// One begins; none: there is one with this id, or with this token.
    pub(super) fn begin(
        &self,
        id: &RequestId,
        token: Option<ProgressToken>,
        place: Option<RequestPlace>,
        open: Option<Open>,
    ) -> Option<Begun> {
        let mut requests = self.lock();
        let Requests { begun, of, .. } = &mut *requests;
        // There are no more of them than a caller has places.
        if token.is_some() && of.values().any(|one| one.token == token) {
            return None;
        }
        let Entry::Vacant(vacant) = of.entry(id.clone()) else {
            return None;
        };
        *begun = begun.wrapping_add(1);
        vacant.insert(Request {
            number: *begun,
            token,
            is_answered: false,
            channel: None,
            place,
            reader: Weak::new(),
            open,
        });
        Some(Begun {
            id: id.clone(),
            number: *begun,
        })
    }

    /// The library has opened this channel for it.
    pub(super) fn opened(&self, begun: &Begun, channel: u64) {
        let mut requests = self.lock();
        if let Some(request) = requests.the(begun) {
            request.channel = Some(channel);
        }
    }

    /// Somebody reads what comes of it, and nobody else does any more; none: it has ended.
    pub(super) fn read(&self, begun: &Begun) -> Option<Reading> {
        let mut requests = self.lock();
        requests.the(begun).map(|request| self.reading(begun.clone(), request))
    }

    fn reading(&self, begun: Begun, request: &mut Request) -> Reading {
        let here = Arc::new(());
        request.reader = Arc::downgrade(&here);
        Reading {
            under_way: self.clone(),
            begun,
            _here: here,
        }
    }

    /// Somebody takes up this channel again, of which the library has the next reader already.
    pub(super) fn take_up(&self, channel: u64) -> TakenUp {
        let mut requests = self.lock();
        let kept = requests.kept.iter().position(|one| one.channel == channel);
        if let Some(Kept { answer, place, .. }) = kept.and_then(|at| requests.kept.remove(at)) {
            return TakenUp {
                kept: Some(answer),
                reading: None,
                place: Some(place),
            };
        }
        let mut all = requests.of.iter_mut();
        let Some((id, request)) = all.find(|(_, one)| one.channel == Some(channel)) else {
            return TakenUp::default();
        };
        let begun = Begun {
            id: id.clone(),
            number: request.number,
        };
        TakenUp {
            kept: None,
            reading: Some(self.reading(begun, request)),
            place: request.place.clone(),
        }
    }

    /// The one with this id has its answer, which is sent now; none: nobody waits for it. To the library, an answer without a
    /// request is news, which it keeps for as long as the session lasts.
    pub(super) fn answer(&self, id: &RequestId) -> Option<Begun> {
        let mut requests = self.lock();
        let request = requests.of.get_mut(id)?;
        request.is_answered = true;
        Some(Begun {
            id: id.clone(),
            number: request.number,
        })
    }

    /// What the library is to send as the answer: this, or where nobody reads it, something short in its place, with which the library
    /// lets go of the channel. This is kept then. Needs a tokio runtime.
    fn keep_unread(&self, begun: &Begun, answer: ServerJsonRpcMessage) -> ServerJsonRpcMessage {
        let mut requests = self.lock();
        let unread = requests.the(begun).filter(|request| request.reader.strong_count() == 0);
        let Some((channel, place, open)) =
            unread.and_then(|one| Some((one.channel?, one.place.clone()?, one.open.take())))
        else {
            return answer;
        };
        let Requests { kept, draining, .. } = &mut *requests;
        let (draining, all) = (draining.clone(), Arc::downgrade(&self.0));
        let end = tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(TAKE_UP) => {}
                () = draining.cancelled() => {}
            }
            if let Some(all) = all.upgrade() {
                UnderWay(all).lock().kept.retain(|one| one.channel != channel);
            }
        });
        place.let_go();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept {
            channel,
            answer: ServerSseMessage::from_message(answer),
            place,
            _open: open,
            _end: AbortOnDropHandle::new(end),
        });
        let error = ErrorData::internal_error("nobody reads the answer", None);
        ServerJsonRpcMessage::Error(JsonRpcError::new(Some(begun.id.clone()), error))
    }

    /// Whether this message of the client is for the library. One that gives up a request is not, if that has its answer: only one
    /// of the two happens. A request that is given up has none from now on.
    pub(super) fn takes(&self, message: &ClientJsonRpcMessage) -> bool {
        let Some(id) = given_up(message) else { return true };
        let mut requests = self.lock();
        let waits = requests.of.get(id).is_some_and(|request| !request.is_answered);
        if waits {
            requests.of.remove(id);
        }
        waits
    }

    /// Its answer is text of so many bytes from now on.
    pub(super) fn lighten(&self, answered: &Begun, bytes: u64) {
        let mut requests = self.lock();
        if let Some(place) = requests.the(answered).and_then(|request| request.place.as_ref()) {
            place.lighten(bytes);
        }
    }

    /// Whether this message tells of a request that has its answer, or will have none. To the library that is news, too.
    pub(super) fn is_late(&self, message: &ServerJsonRpcMessage) -> bool {
        let Some(token) = told(message) else { return false };
        let waits = |request: &Request| request.token.as_ref() == Some(token) && !request.is_answered;
        !self.lock().of.values().any(waits)
    }

    /// It has its answer, or will have none. What that occupies is there for as long as what this returns.
    pub(super) fn end(&self, ended: &Begun) -> Option<RequestPlace> {
        let mut requests = self.lock();
        requests.the(ended)?;
        requests.of.remove(&ended.id)?.place
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request that this message of the client gives up.
fn given_up(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ClientJsonRpcMessage::Notification(said) => match &said.notification {
            ClientNotification::CancelledNotification(cancelled) => cancelled.params.request_id.as_ref(),
            _ => None,
        },
        _ => None,
    }
}

/// What the progress that this message tells is told by.
fn told(message: &ServerJsonRpcMessage) -> Option<&ProgressToken> {
    match message {
        ServerJsonRpcMessage::Notification(said) => match &said.notification {
            ServerNotification::ProgressNotification(progress) => Some(&progress.params.progress_token),
            _ => None,
        },
        _ => None,
    }
}

/// The request that this message answers.
pub(super) fn answered(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ServerJsonRpcMessage::Response(answer) => Some(&answer.id),
        ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
        ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => None,
    }
}

/// What the library says in a session goes through here, also when nobody reads the answer any more.
pub(super) struct Watched {
    inner: WorkerTransport<LocalSessionWorker>,
    under_way: UnderWay,
    /// The request that begins the session is not among those that are under way, and its answer comes first.
    has_begun: bool,
}

impl Watched {
    pub(super) fn new(worker: LocalSessionWorker, under_way: UnderWay) -> Self {
        Self {
            inner: WorkerTransport::spawn(worker),
            under_way,
            has_begun: false,
        }
    }
}

impl Transport<RoleServer> for Watched {
    type Error = LocalSessionWorkerError;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let id = answered(&message);
        let answers = id.and_then(|id| self.under_way.answer(id));
        let is_unasked = id.is_some() && answers.is_none() && !is_first;
        let is_for_nobody = is_unasked || self.under_way.is_late(&message);
        let under_way = self.under_way.clone();
        let message = match &answers {
            Some(begun) => under_way.keep_unread(begun, message),
            None => message,
        };
        let sending = if is_for_nobody {
            None
        } else {
            Some(self.inner.send(message))
        };
        async move {
            let Some(sending) = sending else { return Ok(()) };
            // Only once the answer is sent, the library has let go of its channel.
            let sent = sending.await;
            if let Some(answers) = answers {
                under_way.end(&answers);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.inner.receive().await
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn begin(under_way: &UnderWay, id: &RequestId) -> Option<Begun> {
        under_way.begin(id, None, None, None)
    }

    #[test]
    fn one_id_has_one_request_at_a_time() {
        let under_way = UnderWay::default();
        let (id, other) = (RequestId::Number(7), RequestId::String("7".into()));
        let first = begin(&under_way, &id).expect("the first");
        assert!(begin(&under_way, &id).is_none());
        assert!(begin(&under_way, &other).is_some(), "a text is no number");
        under_way.end(&first);
        let second = begin(&under_way, &id).expect("the first has ended");
        // What is heard of the first too late does not end the second.
        under_way.end(&first);
        assert!(begin(&under_way, &id).is_none());
        under_way.end(&second);
        assert!(begin(&under_way, &id).is_some());
    }

    #[test]
    fn a_request_is_answered_or_given_up_and_not_both() {
        let under_way = UnderWay::default();
        let message = |value| serde_json::from_value::<ClientJsonRpcMessage>(value).expect("a message");
        let cancelled = message(json!({
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 },
        }));
        let id = RequestId::Number(7);
        assert!(!under_way.takes(&cancelled), "there is none");
        assert!(under_way.answer(&id).is_none());
        begin(&under_way, &id).expect("the first");
        assert!(under_way.takes(&cancelled));
        assert!(under_way.answer(&id).is_none(), "it was given up");
        assert!(!under_way.takes(&cancelled), "once is enough");
        let begun = begin(&under_way, &id).expect("the second");
        let answers = under_way.answer(&id).expect("it is there");
        assert_eq!(answers.number, begun.number);
        assert!(!under_way.takes(&cancelled), "it has its answer");
        under_way.end(&answers);
        assert!(begin(&under_way, &id).is_some());
        let other = message(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        assert!(under_way.takes(&other));
    }
}
