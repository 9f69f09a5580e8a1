//! Sessions, which the revisions of MCP before 2026-07-28 have. Each belongs to the caller that began it: to everybody else it
//! is not there. The library keeps what is said in each; how one caller gets into its own is said here.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aral_contract::id::CallerName;
use aral_runtime::entropy;
use futures::Stream;
use futures::future::Either;
use http::request::Parts;
use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _, GetMeta as _, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    EventId, SessionConfig, SessionError as Fault, create_local_session,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use tokio_util::task::AbortOnDropHandle;

use super::message;
use super::presence::Presence;
use super::session_table::{Line, Running, Sessions};
use super::stream::{answering, channel, stream};
use super::under_way::{TakenUp, UnderWay, Watched};
use crate::bounds;
use crate::meters;
use crate::request_place::{OtherPlace, RequestPlace};
use crate::tally::{Beyond, Held};

/// Why there is no session, or no answer in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The caller has as many as it may, or all callers have.
    #[error("there are as many sessions as there may be")]
    Full,
    /// There is none of this name, or it is somebody else's.
    #[error("there is no such session")]
    Unknown,
    /// The request is answered with a fault.
    #[error("the request is not taken in this session")]
    Refused,
    /// The library's own.
    #[error(transparent)]
    Fault(#[from] Fault),
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::default();
    // The library would also end a session in which a call is under way or a stream is open.
    config.keep_alive = None;
    // What the library keeps so much longer is that of requests that were given up, which have no answer to take up again.
    config.completed_cache_ttl = Duration::ZERO;
    config
}

/// The sessions of one caller, as the library sees them.
#[derive(Debug)]
pub(super) struct OwnSessions {
    all: Arc<Sessions>,
    caller: CallerName,
    max: u64,
    full: OnceLock<Beyond>,
    refused: OnceLock<message::Fault>,
    gone: OnceLock<()>,
    taken_up: OnceLock<RequestPlace>,
}

impl OwnSessions {
    /// `max` of them at most, and all callers together so many times as much as they may keep.
    pub(super) fn new(all: Arc<Sessions>, caller: CallerName, max: u64) -> Self {
        Self {
            all,
            caller,
            max,
            full: OnceLock::new(),
            refused: OnceLock::new(),
            gone: OnceLock::new(),
            taken_up: OnceLock::new(),
        }
    }

    /// Why a session was not begun, if it is that there are too many.
    pub(super) fn was_full(&self) -> Option<&Beyond> {
        self.full.get()
    }

    /// Why a request was not begun in a session that is there.
    pub(super) fn refused(&self) -> Option<&message::Fault> {
        self.refused.get()
    }

    /// Whether the session is not there, or not any more.
    pub(super) fn was_gone(&self) -> bool {
        self.gone.get().is_some()
    }

    /// The place of the request whose answer was taken up again.
    pub(super) fn taken_up(&self) -> Option<&RequestPlace> {
        self.taken_up.get()
    }

    fn refuse(&self, fault: message::Fault) -> SessionError {
        let _asked_once = self.refused.set(fault);
        SessionError::Refused
    }

    fn unknown(&self) -> SessionError {
        let _asked_before = self.gone.set(());
        SessionError::Unknown
    }

    /// It may end at any time, also between two questions of the library.
    fn fault(&self, fault: Fault) -> SessionError {
        match fault {
            Fault::SessionServiceTerminated => self.unknown(),
            other => SessionError::Fault(other),
        }
    }

    fn find(&self, id: &SessionId) -> Result<Line, SessionError> {
        if let Some(over) = self.all.take_over(id) {
            let handle = over.line.handle.clone();
            drop(over);
            tokio::spawn(async move {
                let _ended_already = handle.close().await;
            });
        }
        let running = self.all.running();
        let own = running.get(id).filter(|session| session.owner == self.caller);
        let session = own.ok_or_else(|| self.unknown())?;
        session.line.presence.touch();
        Ok(session.line.clone())
    }

    /// One more session, where there may be one or one makes room.
    async fn place(&self) -> Result<Held<CallerName>, Beyond> {
        loop {
            let taken = self
                .all
                .places
                .take_of(&self.caller, self.max, bounds::of_all(self.max));
            let Err(Beyond::Own { .. }) = taken else { return taken };
            // Clients leave without ending theirs.
            let Some(Running { line, .. }) = self.all.take_silent(&self.caller) else {
                return taken;
            };
            meters::rate_limited("mcp_sessions_max");
            let _ended_already = line.handle.close().await;
        }
    }
}

impl SessionManager for OwnSessions {
    type Error = SessionError;
    type Transport = Watched;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionError> {
        let place = self.place().await.map_err(|beyond| {
            let _asked_once = self.full.set(beyond);
            SessionError::Full
        })?;
        // As hard to guess as the name of a request, and as little a secret: it opens nothing to anybody else.
        let id: SessionId = entropy::trace_id().to_string().into();
        let (handle, worker) = create_local_session(Arc::clone(&id), config());
        let under_way = UnderWay::new(self.all.draining.clone());
        let line = Line {
            handle,
            under_way: under_way.clone(),
            presence: Presence::begin(),
        };
        // It finds the session there as soon as it may look.
        let mut running = self.all.running();
        let end = tokio::spawn(Sessions::end_over(Arc::downgrade(&self.all), Arc::clone(&id)));
        let session = Running {
            owner: self.caller.clone(),
            line,
            _place: place,
            news: OtherPlace::default(),
            _end: AbortOnDropHandle::new(end),
        };
        running.insert(Arc::clone(&id), session);
        drop(running);
        Ok((id, Watched::new(worker, under_way)))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionError> {
        let Line { handle, presence, .. } = self.find(id)?;
        // Also where its client is lost before it hears that the session has begun.
        let _open = presence.enter();
        Ok(handle.initialize(message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionError> {
        Ok(self.find(id).is_ok())
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), SessionError> {
        // The library asks for this also with a name that nobody has, and once the session has ended by itself.
        if let Some(Running { line, .. }) = self.all.take(id, &self.caller) {
            let _ended_already = line.handle.close().await;
        }
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let Line {
            handle,
            under_way,
            presence,
        } = self.find(id)?;
        if let Some(fault) = message::Fault::in_session(&message) {
            return Err(self.refuse(fault));
        }
        let open = presence.enter();
        let turn = presence.turn().await;
        let (begun, place) = match &message {
            ClientJsonRpcMessage::Request(request) => {
                let parts = request.request.extensions().get::<Parts>();
                let place = parts.and_then(|parts| parts.extensions.get::<RequestPlace>()).cloned();
                let token = request.request.get_meta().get_progress_token();
                let begun = under_way.begin(&request.id, token, place.clone(), Some(presence.enter()));
                (
                    Some(begun.ok_or_else(|| self.refuse(message::Fault::twice(request.id.clone())))?),
                    place,
                )
            }
            _ => (None, None),
        };
        // Until its client has gone away.
        let reading = begun.as_ref().and_then(|begun| under_way.read(begun));
        // A channel that was opened and in which nothing was asked would stay: whoever goes away now does not end this.
        let opened = tokio::spawn(async move {
            let _turn = turn;
            let channel = handle.establish_request_wise_channel().await?;
            if let (Some(begun), Some(channel)) = (&begun, channel.http_request_id) {
                under_way.opened(begun, channel);
            }
            handle.push_message(message, channel.http_request_id).await?;
            Ok::<_, Fault>(channel.inner)
        });
        let opened = opened.await.unwrap_or(Err(Fault::SessionServiceTerminated));
        let messages = opened.map_err(|fault| self.fault(fault))?;
        Ok(answering(stream(messages, open), reading, place))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), SessionError> {
        let Line {
            handle,
            under_way,
            presence,
        } = self.find(id)?;
        let turn = presence.turn().await;
        // A request that was given up, and of which the library never hears that, would keep its channel: whoever goes away now does
        // not end this.
        let said = tokio::spawn(async move {
            let _turn = turn;
            if under_way.takes(&message) {
                handle.push_message(message, None).await?;
            }
            Ok::<_, Fault>(())
        });
        let said = said.await.unwrap_or(Err(Fault::SessionServiceTerminated));
        said.map_err(|fault| self.fault(fault))
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let Line { handle, presence, .. } = self.find(id)?;
        let open = presence.enter();
        let _turn = presence.turn().await;
        // Its client may have lost the one before, of which the connection is still there. The library would let that one hear all
        // news, and this one none.
        let closed = handle.close_standalone_sse_stream(None).await;
        closed.map_err(|fault| self.fault(fault))?;
        let channel = handle.establish_common_channel().await;
        Ok(stream(channel.map_err(|fault| self.fault(fault))?.inner, open))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let last: EventId = last_event_id.parse().map_err(Fault::from)?;
        let Line {
            handle,
            under_way,
            presence,
        } = self.find(id)?;
        let open = presence.enter();
        // Meanwhile no channel is opened, of which it would not be known whose it is.
        let _turn = presence.turn().await;
        let channel = channel(&last_event_id);
        if channel.is_none() {
            // One stream of news takes the place of another.
            let closed = handle.close_standalone_sse_stream(None).await;
            closed.map_err(|fault| self.fault(fault))?;
        }
        let resumed = handle.resume(last).await;
        // Asked behind the library: an answer has come before, or comes to who reads now.
        let TakenUp { kept, reading, place } = channel.map(|one| under_way.take_up(one)).unwrap_or_default();
        let messages = match kept {
            Some(kept) => Either::Left(futures::stream::iter([kept])),
            None => Either::Right(stream(resumed.map_err(|fault| self.fault(fault))?.inner, open)),
        };
        if let Some(place) = place.clone() {
            // The answer counts there, wherever it is sent.
            let _asked_once = self.taken_up.set(place);
        }
        Ok(answering(messages, reading, place))
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::TraceId;
    use futures::{FutureExt as _, StreamExt as _};
    use rmcp::transport::Transport as _;
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::super::session_table::SILENT_MIN;
    use super::super::under_way::{KEPT_MAX, TAKE_UP, answered};
    use super::*;
    use crate::bounds::Bounds;
    use crate::places::Places;
    use crate::unsent::{Unsent, Weight};

    fn client(value: Value) -> ClientJsonRpcMessage {
        serde_json::from_value(value).unwrap()
    }

    fn initialize(version: &str) -> ClientJsonRpcMessage {
        client(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        } }))
    }

    fn ping(id: i64) -> ClientJsonRpcMessage {
        client(json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }))
    }

    fn give_up(id: i64) -> ClientJsonRpcMessage {
        client(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }))
    }

    fn answer(id: i64) -> ServerJsonRpcMessage {
        let value = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": "it failed" } });
        serde_json::from_value(value).unwrap()
    }

    /// A request that came over the network.
    fn of(place: &RequestPlace, mut message: ClientJsonRpcMessage) -> ClientJsonRpcMessage {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.extensions.insert(place.clone());
        if let ClientJsonRpcMessage::Request(request) = &mut message {
            request.request.extensions_mut().insert(parts);
        }
        message
    }

    /// Of a server that goes on.
    fn all() -> Arc<Sessions> {
        Arc::new(Sessions::new(&Bounds::default(), CancellationToken::new()))
    }

    /// How long a session may be silent.
    fn idle(mcp_session_idle_ms: u64) -> Bounds {
        Bounds {
            mcp_session_idle_ms,
            ..Bounds::default()
        }
    }

    /// Those of a caller that may have `max` of them, one of which makes room for another.
    fn own(all: &Arc<Sessions>, caller: &str, max: u64) -> OwnSessions {
        OwnSessions::new(Arc::clone(all), caller.parse().unwrap(), max)
    }

    /// A session that has begun, and the side of it that answers.
    async fn begin() -> (OwnSessions, SessionId, Watched) {
        begin_of(&all(), 1).await
    }

    /// The same among all, of a caller that has `max` of them.
    async fn begin_of(all: &Arc<Sessions>, max: u64) -> (OwnSessions, SessionId, Watched) {
        let sessions = own(all, "somebody", max);
        let (id, mut server) = sessions.create_session().await.unwrap();
        let serving = async {
            server.receive().await.unwrap();
            server.send(answer(0)).await.unwrap();
        };
        let (begun, ()) = tokio::join!(sessions.initialize_session(&id, initialize("2025-06-18")), serving);
        begun.unwrap();
        (sessions, id, server)
    }

    /// What a stream of news begins with.
    async fn news(sessions: &OwnSessions, id: &SessionId) -> Option<ServerSseMessage> {
        let mut news = Box::pin(sessions.create_standalone_stream(id).await.unwrap());
        // What is kept is there as soon as the stream is.
        news.next().now_or_never().flatten()
    }

    /// How many answers come until the end of a stream.
    async fn answers(stream: &mut (impl Stream<Item = ServerSseMessage> + Unpin)) -> usize {
        let mut count = 0;
        while let Some(event) = stream.next().await {
            count += usize::from(event.message.as_deref().and_then(answered).is_some());
        }
        count
    }

    #[tokio::test]
    async fn a_new_stream_of_news_takes_the_place_of_the_one_before() {
        let (sessions, id, mut server) = begin().await;
        let changed = || {
            let value = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
            serde_json::from_value::<ServerJsonRpcMessage>(value).unwrap()
        };
        let mut first = Box::pin(sessions.create_standalone_stream(&id).await.unwrap());
        let mut second = Box::pin(sessions.create_standalone_stream(&id).await.unwrap());
        assert!(matches!(first.next().now_or_never(), Some(None)), "it has ended");
        server.send(changed()).await.unwrap();
        let told = second.next().await.expect("news");
        assert!(told.message.is_some(), "{told:?}");
        let mut third = Box::pin(sessions.resume(&id, "1".to_owned()).await.unwrap());
        assert!(matches!(second.next().now_or_never(), Some(None)), "it has ended");
        server.send(changed()).await.unwrap();
        let told = third.next().await.expect("news");
        assert_eq!(told.event_id.as_deref(), Some("1"));
    }

    #[tokio::test]
    async fn a_session_is_not_begun_again_and_nobody_listens_in_it() {
        let (sessions, id, mut server) = begin().await;
        let listen =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": { "notifications": {} } });
        for (message, number, code) in [(initialize("2026-07-28"), 0, -32600), (client(listen), 1, -32601)] {
            let again = own(&sessions.all, "somebody", 1);
            let refused = again.create_stream(&id, message).await.map(drop);
            assert!(matches!(refused, Err(SessionError::Refused)), "{number}");
            let error = again.refused().cloned().unwrap().error(TraceId::from_bytes([7; 16]));
            let error = serde_json::to_value(error).unwrap();
            assert_eq!((&error["id"], &error["error"]["code"]), (&json!(number), &json!(code)));
        }
        assert!(server.receive().now_or_never().is_none(), "the library hears neither");
        let silent_since = sessions.all.running().get(&id).map(Running::silent_since);
        assert!(silent_since.unwrap().is_some(), "nothing is under way");
        sessions.create_stream(&id, ping(2)).await.map(drop).unwrap();
        server.receive().await.unwrap();
    }

    #[tokio::test]
    async fn one_token_has_one_request_at_a_time() {
        let (sessions, id, mut server) = begin().await;
        let with = |number: i64, token: Value| {
            let params = json!({ "_meta": { "progressToken": token } });
            client(json!({ "jsonrpc": "2.0", "id": number, "method": "ping", "params": params }))
        };
        let first = sessions.create_stream(&id, with(7, json!("t"))).await;
        let mut first = Box::pin(first.unwrap());
        server.receive().await.unwrap();
        let again = own(&sessions.all, "somebody", 1);
        let refused = again.create_stream(&id, with(8, json!("t"))).await.map(drop);
        assert!(matches!(refused, Err(SessionError::Refused)));
        let error = again.refused().cloned().unwrap().error(TraceId::from_bytes([7; 16]));
        let error = serde_json::to_value(error).unwrap();
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!(8), &json!(-32600)));
        for (number, token) in [(9, json!("u")), (10, json!(1))] {
            let other = sessions.create_stream(&id, with(number, token)).await.map(drop);
            other.unwrap();
        }
        sessions.create_stream(&id, ping(11)).await.map(drop).unwrap();
        sessions.create_stream(&id, ping(12)).await.map(drop).unwrap();
        server.send(answer(7)).await.unwrap();
        assert_eq!(answers(&mut first).await, 1);
        sessions
            .create_stream(&id, with(8, json!("t")))
            .await
            .map(drop)
            .unwrap();
    }

    #[tokio::test]
    async fn progress_of_what_was_answered_or_given_up_is_told_to_nobody() {
        let (sessions, id, mut server) = begin().await;
        let with_token = |number: i64| {
            let params = json!({ "_meta": { "progressToken": "t" } });
            client(json!({ "jsonrpc": "2.0", "id": number, "method": "ping", "params": params }))
        };
        let progress = || {
            let params = json!({ "progressToken": "t", "progress": 1.0 });
            let value = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            serde_json::from_value::<ServerJsonRpcMessage>(value).unwrap()
        };
        let stream = Box::pin(sessions.create_stream(&id, with_token(7)).await.unwrap());
        server.receive().await.unwrap();
        server.send(progress()).await.unwrap();
        server.send(answer(7)).await.unwrap();
        server.send(progress()).await.unwrap();
        let messages = stream.filter(|event| std::future::ready(event.message.is_some()));
        assert_eq!(messages.count().await, 2, "one before the answer, and the answer");
        let stream = sessions.create_stream(&id, with_token(8)).await.unwrap();
        server.receive().await.unwrap();
        sessions.accept_message(&id, give_up(8)).await.unwrap();
        server.receive().await.unwrap();
        server.send(progress()).await.unwrap();
        assert!(news(&sessions, &id).await.is_none());
        drop(stream);
    }

    #[tokio::test]
    async fn an_answer_that_is_on_its_way_is_not_given_up() {
        let (sessions, id, mut server) = begin().await;
        for number in 1..=20 {
            let mut stream = Box::pin(sessions.create_stream(&id, ping(number)).await.unwrap());
            server.receive().await.unwrap();
            // The library has it, and has not looked.
            let mut sending = Box::pin(server.send(answer(number)));
            assert!(futures::poll!(&mut sending).is_pending());
            sessions.accept_message(&id, give_up(number)).await.unwrap();
            sending.await.unwrap();
            assert_eq!(answers(&mut stream).await, 1);
        }
        assert!(news(&sessions, &id).await.is_none());
    }

    #[tokio::test]
    async fn what_was_given_up_has_no_answer() {
        let (sessions, id, mut server) = begin().await;
        let mut stream = Box::pin(sessions.create_stream(&id, ping(7)).await.unwrap());
        server.receive().await.unwrap();
        sessions.accept_message(&id, give_up(7)).await.unwrap();
        server.receive().await.unwrap();
        server.send(answer(7)).await.unwrap();
        assert_eq!(answers(&mut stream).await, 0);
        assert!(news(&sessions, &id).await.is_none());
        let again = sessions.resume(&id, "0/0".to_owned()).await.map(drop);
        assert!(
            matches!(again, Err(SessionError::Fault(Fault::ChannelClosed(_)))),
            "nothing of it is kept"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_and_goes_away_has_given_up() {
        let (sessions, id, mut server) = begin().await;
        let mut stream = Box::pin(sessions.create_stream(&id, ping(7)).await.unwrap());
        server.receive().await.unwrap();
        let handle = sessions.find(&id).unwrap().handle;
        let mut queued = 0;
        let said = || client(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        while handle.push_message(said(), None).now_or_never().is_some() {
            queued += 1;
        }
        let mut giving_up = Box::pin(sessions.accept_message(&id, give_up(7)));
        assert!(futures::poll!(&mut giving_up).is_pending(), "the queue is full");
        drop(giving_up);
        for _ in 0..queued {
            server.receive().await.unwrap();
        }
        let soon = Duration::from_secs(1);
        let heard = tokio::time::timeout(soon, server.receive())
            .await
            .expect("the library heard it");
        let heard = serde_json::to_value(heard.unwrap()).unwrap();
        assert_eq!(heard["method"], "notifications/cancelled");
        server.send(answer(7)).await.unwrap();
        assert_eq!(answers(&mut stream).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_once_nobody_was_in_it_for_its_time() {
        let all = all();
        let (mine, id, mut server) = begin_of(&all, 1).await;
        all.rebound(&idle(1_000));
        let long = || tokio::time::advance(Duration::from_secs(1));
        let mut asked = Box::pin(mine.create_stream(&id, ping(7)).await.unwrap());
        server.receive().await.unwrap();
        long().await;
        assert!(mine.has_session(&id).await.unwrap(), "a call is under way");
        long().await;
        server.send(answer(7)).await.unwrap();
        assert_eq!(answers(&mut asked).await, 1);
        drop(asked);
        let news = mine.create_standalone_stream(&id).await.unwrap();
        long().await;
        assert!(mine.has_session(&id).await.unwrap(), "a stream is open");
        drop(news);
        all.rebound(&idle(2_000));
        long().await;
        assert!(mine.has_session(&id).await.unwrap(), "it has more time now");
        all.rebound(&idle(1_000));
        assert!(!mine.was_gone());
        long().await;
        assert!(!mine.has_session(&id).await.unwrap() && mine.was_gone());
        assert!(all.running().is_empty());
        // It has no place any more, also where nobody may have another one.
        let (_, other, _server) = begin_of(&all, 1).await;
        assert_eq!(all.running().keys().collect::<Vec<_>>(), [&other]);
        assert!(server.receive().await.is_none(), "its conversation has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_nobody_asks_for_any_more_ends() {
        let all = all();
        let (_mine, _id, mut server) = begin_of(&all, 1).await;
        let mut ended = async || tokio::time::timeout(Duration::from_secs(2), server.receive()).await;
        assert!(ended().await.is_err());
        // Less time from now on.
        all.rebound(&idle(1_000));
        assert!(matches!(ended().await, Ok(None)), "its conversation has ended");
        assert!(all.running().is_empty());
        // The place of the one before may be about to be given back.
        let (_mine, _id, mut server) = begin_of(&all, 2).await;
        let ended = tokio::time::timeout(Duration::from_secs(2), server.receive()).await;
        assert!(matches!(ended, Ok(None)), "and so does the next one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_does_not_end_while_an_answer_waits_in_it() {
        let all = all();
        let (mine, id, mut server) = begin_of(&all, 1).await;
        all.rebound(&idle(1_000));
        let (places, unsent) = (Places::new(1), Unsent::default());
        let asked = RequestPlace::new(places.try_take().unwrap(), Weight::new(&unsent, &Bounds::default()));
        mine.create_stream(&id, of(&asked, ping(7))).await.map(drop).unwrap();
        server.receive().await.unwrap();
        server.send(answer(7)).await.unwrap();
        tokio::time::sleep(TAKE_UP / 2).await;
        let mut stream = Box::pin(mine.resume(&id, "0/0".to_owned()).await.unwrap());
        assert_eq!(answers(&mut stream).await, 1);
        drop(stream);
        let ended = tokio::time::timeout(Duration::from_secs(2), server.receive()).await;
        assert!(matches!(ended, Ok(None)), "nothing waits any more");
    }

    #[tokio::test]
    async fn a_session_that_ends_between_two_questions_is_not_there() {
        let (sessions, id, mut server) = begin().await;
        server.close().await.unwrap();
        assert!(sessions.has_session(&id).await.unwrap());
        let asks = || own(&sessions.all, "somebody", 1);
        let is_gone = |asked: &OwnSessions, result: Result<(), SessionError>| {
            matches!(result, Err(SessionError::Unknown)) && asked.was_gone()
        };
        let asked = asks();
        assert!(is_gone(&asked, asked.create_stream(&id, ping(7)).await.map(drop)));
        let asked = asks();
        let said = client(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        assert!(is_gone(&asked, asked.accept_message(&id, said).await));
        let asked = asks();
        assert!(is_gone(&asked, asked.create_standalone_stream(&id).await.map(drop)));
        for last in ["0", "0/0"] {
            let asked = asks();
            assert!(
                is_gone(&asked, asked.resume(&id, last.to_owned()).await.map(drop)),
                "{last}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_session_that_was_silent_longest_makes_room_for_another() {
        let all = all();
        let (mine, first, _one) = begin_of(&all, 2).await;
        let (_, second, _two) = begin_of(&all, 2).await;
        let other = own(&all, "other", 1);
        let (others, _theirs) = other.create_session().await.unwrap();
        tokio::time::advance(SILENT_MIN).await;
        assert!(mine.has_session(&first).await.unwrap());
        let (_, third, _three) = begin_of(&all, 2).await;
        let there = |id: &SessionId| all.running().contains_key(id);
        assert_eq!([&first, &second, &third].map(there), [true, false, true]);
        assert!(there(&others), "that of somebody else");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_was_used_a_moment_ago_makes_no_room() {
        let all = all();
        let (mine, id, mut server) = begin_of(&all, 1).await;
        let another = || own(&all, "somebody", 1);
        let long = || tokio::time::advance(SILENT_MIN);
        let is_full = async || matches!(another().create_session().await, Err(SessionError::Full));
        assert!(is_full().await, "it has just begun");
        long().await;
        let mut asked = Box::pin(mine.create_stream(&id, ping(7)).await.unwrap());
        server.receive().await.unwrap();
        long().await;
        server.send(answer(7)).await.unwrap();
        assert_eq!(answers(&mut asked).await, 1);
        drop(asked);
        assert!(is_full().await, "its answer has just been read");
        let news = mine.create_standalone_stream(&id).await.unwrap();
        long().await;
        drop(news);
        assert!(is_full().await, "its client may be about to listen again");
        long().await;
        another().create_session().await.map(drop).unwrap();
        assert!(mine.find(&id).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_in_which_somebody_waits_makes_no_room() {
        let all = all();
        let (mine, first, mut one) = begin_of(&all, 2).await;
        let (_, second, _two) = begin_of(&all, 2).await;
        let another = || own(&all, "somebody", 2);
        let long = || tokio::time::advance(SILENT_MIN);
        let there = |id: &SessionId| all.running().contains_key(id);
        // The call goes on although nobody reads its answer.
        let unread = mine.create_stream(&first, ping(7)).await.unwrap();
        one.receive().await.unwrap();
        drop(unread);
        let news = mine.create_standalone_stream(&second).await.unwrap();
        long().await;
        let refused = another();
        assert!(matches!(refused.create_session().await, Err(SessionError::Full)));
        assert!(refused.was_full().is_some());
        drop(news);
        long().await;
        let begins = another();
        let (third, mut three) = begins.create_session().await.unwrap();
        assert!(there(&first) && !there(&second));
        let mut begun = Box::pin(begins.initialize_session(&third, initialize("2025-06-18")));
        assert!(futures::poll!(&mut begun).is_pending());
        three.receive().await.unwrap();
        long().await;
        // Its client waits for it to begin.
        assert!(matches!(another().create_session().await, Err(SessionError::Full)));
        assert!(there(&third));
        one.send(answer(7)).await.unwrap();
        let early = another().create_session().await;
        assert!(
            matches!(early, Err(SessionError::Full)),
            "its client may be about to take up the answer"
        );
        long().await;
        another().create_session().await.map(drop).unwrap();
        assert!(!there(&first), "its call has ended long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_whose_client_is_lost_before_it_hears_of_it_makes_room() {
        let all = all();
        let mine = own(&all, "somebody", 1);
        let (id, mut server) = mine.create_session().await.unwrap();
        let mut begun = Box::pin(mine.initialize_session(&id, initialize("2025-06-18")));
        assert!(futures::poll!(&mut begun).is_pending());
        server.receive().await.unwrap();
        tokio::time::advance(SILENT_MIN).await;
        server.send(answer(0)).await.unwrap();
        // The answer is there, and nobody is there to take it.
        drop(begun);
        let another = || own(&all, "somebody", 1);
        let early = another().create_session().await;
        assert!(matches!(early, Err(SessionError::Full)), "it has just begun");
        tokio::time::advance(SILENT_MIN).await;
        another().create_session().await.map(drop).unwrap();
        assert!(mine.find(&id).is_err());
    }

    #[tokio::test]
    async fn an_answer_that_is_taken_up_again_counts_until_it_is_sent_there() {
        let (sessions, id, mut server) = begin().await;
        let bounds = Bounds {
            unsent_bytes_max: 1,
            ..Bounds::default()
        };
        let (places, all) = (Places::new(3), Unsent::default());
        let place = || RequestPlace::new(places.try_take().unwrap(), Weight::new(&all, &bounds));
        let (asked, takes_up, other) = (place(), place(), place());
        let first = sessions.create_stream(&id, of(&asked, ping(7))).await.unwrap();
        let handled = server.receive().await.unwrap();
        let again = own(&sessions.all, "somebody", 1);
        let mut stream = Box::pin(again.resume(&id, "0/0".to_owned()).await.unwrap());
        takes_up.keep(again.taken_up().expect("it is under way").clone());
        asked.weigh(1).unwrap();
        server.send(answer(7)).await.unwrap();
        assert_eq!(answers(&mut stream).await, 1);
        drop(stream);
        drop((first, asked, handled));
        drop(again);
        assert!(other.weigh(1).is_err());
        drop(takes_up);
        other.weigh(1).unwrap();
        // What nobody asked, and what is no answer, has no place.
        for last in ["0/1", "0"] {
            let again = own(&sessions.all, "somebody", 1);
            let _stream = again.resume(&id, last.to_owned()).await;
            assert!(again.taken_up().is_none(), "{last}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_read_waits_a_while_for_its_client() {
        let all = all();
        let (sessions, id, mut server) = begin_of(&all, 1).await;
        let bounds = Bounds {
            unsent_bytes_max: 1,
            ..Bounds::default()
        };
        let (places, unsent) = (Places::new(2), Unsent::default());
        let place = || RequestPlace::new(places.try_take().unwrap(), Weight::new(&unsent, &bounds));
        let other = place();
        let is_counted = || other.weigh(1).and_then(|()| other.weigh(0)).is_err();
        // Calls whose clients lose their connections before they end.
        let mut called = async |channel: u64| {
            let asked = place();
            let stream = sessions.create_stream(&id, of(&asked, ping(7))).await.unwrap();
            drop(stream);
            let handled = server.receive().await.unwrap();
            asked.weigh(1).unwrap();
            server.send(answer(7)).await.unwrap();
            drop(handled);
            drop(asked);
            assert!(places.try_take().is_some(), "whoever comes for it needs a place");
            assert!(is_counted(), "it has its bytes");
            format!("0/{channel}")
        };
        let last = called(0).await;
        tokio::time::sleep(TAKE_UP / 2).await;
        let again = own(&all, "somebody", 1);
        let mut stream = Box::pin(again.resume(&id, last.clone()).await.unwrap());
        assert!(again.taken_up().is_some());
        assert_eq!(answers(&mut stream).await, 1);
        drop((stream, again));
        assert!(sessions.resume(&id, last).await.map(drop).is_err(), "it is given once");
        let last = called(1).await;
        tokio::time::sleep(TAKE_UP * 2).await;
        assert!(!is_counted(), "it has no bytes any more");
        assert!(sessions.resume(&id, last).await.map(drop).is_err(), "it is gone");
        called(2).await;
        all.draining.cancel();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!is_counted(), "a server that ends keeps none");
    }

    #[tokio::test]
    async fn of_many_answers_that_nobody_read_the_oldest_goes_first() {
        let (sessions, id, mut server) = begin().await;
        let (places, unsent) = (Places::new(2), Unsent::default());
        // There is one for the long call, and one for all others in turn.
        let place = || RequestPlace::new(places.try_take().unwrap(), Weight::new(&unsent, &Bounds::default()));
        let most = i64::try_from(KEPT_MAX).unwrap();
        sessions
            .create_stream(&id, of(&place(), ping(100)))
            .await
            .map(drop)
            .unwrap();
        server.receive().await.unwrap();
        for number in 101..=100 + most {
            let asked = of(&place(), ping(number));
            sessions.create_stream(&id, asked).await.map(drop).unwrap();
            server.receive().await.unwrap();
            server.send(answer(number)).await.unwrap();
        }
        // It has begun first and ends last.
        server.send(answer(100)).await.unwrap();
        let mut there = Vec::new();
        for channel in 0..=most {
            if let Ok(stream) = sessions.resume(&id, format!("0/{channel}")).await {
                assert_eq!(answers(&mut Box::pin(stream)).await, 1);
                there.push(channel);
            }
        }
        let expected: Vec<_> = (0..=most).filter(|channel| *channel != 1).collect();
        assert_eq!(there, expected);
    }

    #[tokio::test]
    async fn an_answer_that_is_text_counts_as_text() {
        let (sessions, id, mut server) = begin().await;
        let bounds = Bounds {
            unsent_bytes_max: 1_000,
            ..Bounds::default()
        };
        let (places, all) = (Places::new(2), Unsent::default());
        let place = || RequestPlace::new(places.try_take().unwrap(), Weight::new(&all, &bounds));
        let (asked, other) = (place(), place());
        let mut stream = Box::pin(sessions.create_stream(&id, of(&asked, ping(7))).await.unwrap());
        server.receive().await.unwrap();
        // What its values take in memory.
        asked.weigh(1_000).unwrap();
        server.send(answer(7)).await.unwrap();
        assert!(other.weigh(1).is_err());
        assert_eq!(answers(&mut stream).await, 1);
        other.weigh(1).unwrap();
    }
}
