//! What a client reads of a session: a stream of news, or one that ends with an answer. It knows no sessions.

use futures::{Stream, StreamExt as _};
use rmcp::transport::streamable_http_server::session::ServerSseMessage;
use tokio::sync::mpsc::Receiver;

use super::handler::written;
use super::presence::Open;
use super::under_way::{Reading, answered};
use crate::request_place::RequestPlace;

/// The channel that an event came in, as its name says; none: that of news.
pub(super) fn channel(event_id: &str) -> Option<u64> {
    let (_index, channel) = event_id.split_once('/')?;
    channel.parse().ok()
}

pub(super) fn stream(
    mut messages: Receiver<ServerSseMessage>,
    open: Open,
) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static {
    futures::stream::poll_fn(move |cx| {
        let _open = &open;
        messages.poll_recv(cx)
    })
}

/// The messages of a request, which ends with its answer. What that was in memory is text from then on.
pub(super) fn answering(
    messages: impl Stream<Item = ServerSseMessage> + Send + Sync + 'static,
    reading: Option<Reading>,
    place: Option<RequestPlace>,
) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static {
    messages.inspect(move |event| {
        let message = event.message.as_deref();
        let Some(answer) = message.filter(|message| answered(message).is_some()) else {
            return;
        };
        // Known before the client reads it, which may use the id again then.
        if let Some(reading) = &reading {
            reading.end();
        }
        if let Some(place) = &place {
            place.lighten(written(answer));
        }
    })
}
