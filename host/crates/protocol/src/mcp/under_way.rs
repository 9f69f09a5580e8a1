//! The requests of one session that have no answer yet, by their ids. The library keeps a channel for each until it sends an
//! answer with its id; of two with one id it forgets the channel of the first, which then stays as long as the session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ClientNotification, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{LocalSessionWorker, LocalSessionWorkerError};
use rmcp::transport::{Transport, WorkerTransport};

/// All of one session.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    begun: u64,
    numbers: HashMap<RequestId, u64>,
}

/// One of them. Another that has its id later is another one.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    id: RequestId,
    number: u64,
}

impl UnderWay {
    /// One begins; none: there is one with this id.
    pub(super) fn begin(&self, id: &RequestId) -> Option<Begun> {
        let mut requests = self.lock();
        let Requests { begun, numbers } = &mut *requests;
        let Entry::Vacant(place) = numbers.entry(id.clone()) else {
            return None;
        };
        *begun = begun.wrapping_add(1);
        Some(Begun {
            id: id.clone(),
            number: *place.insert(*begun),
        })
    }

    /// The one with this id.
    fn find(&self, id: &RequestId) -> Option<Begun> {
        let number = self.lock().numbers.get(id).copied()?;
        Some(Begun { id: id.clone(), number })
    }

    /// The one that this message of the client gives up.
    pub(super) fn given_up(&self, message: &ClientJsonRpcMessage) -> Option<Begun> {
        match message {
            ClientJsonRpcMessage::Notification(said) => match &said.notification {
                ClientNotification::CancelledNotification(cancelled) => {
                    self.find(cancelled.params.request_id.as_ref()?)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// It has its answer, or will have none.
    pub(super) fn end(&self, ended: &Begun) {
        let mut requests = self.lock();
        if requests.numbers.get(&ended.id) == Some(&ended.number) {
            requests.numbers.remove(&ended.id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl Watched {
    pub(super) fn new(worker: LocalSessionWorker, under_way: UnderWay) -> Self {
        Self {
            inner: WorkerTransport::spawn(worker),
            under_way,
        }
    }
}

impl Transport<RoleServer> for Watched {
    type Error = LocalSessionWorkerError;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answers = answered(&message).and_then(|id| self.under_way.find(id));
        let under_way = self.under_way.clone();
        let sending = self.inner.send(message);
        async move {
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

    #[test]
    fn one_id_has_one_request_at_a_time() {
        let under_way = UnderWay::default();
        let (id, other) = (RequestId::Number(7), RequestId::String("7".into()));
        let first = under_way.begin(&id).expect("the first");
        assert!(under_way.begin(&id).is_none());
        assert!(under_way.begin(&other).is_some(), "a text is no number");
        under_way.end(&first);
        let second = under_way.begin(&id).expect("the first has ended");
        // What is heard of the first too late does not end the second.
        under_way.end(&first);
        assert!(under_way.begin(&id).is_none());
        under_way.end(&second);
        assert!(under_way.begin(&id).is_some());
    }

    #[test]
    fn who_gives_up_names_one() {
        let under_way = UnderWay::default();
        let message = |value| serde_json::from_value::<ClientJsonRpcMessage>(value).expect("a message");
        let cancelled = message(json!({
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 },
        }));
        assert!(under_way.given_up(&cancelled).is_none(), "there is none");
        let begun = under_way.begin(&RequestId::Number(7)).expect("the first");
        let named = under_way.given_up(&cancelled).expect("it is there");
        assert_eq!(named.number, begun.number);
        let other = message(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        assert!(under_way.given_up(&other).is_none());
    }
}
