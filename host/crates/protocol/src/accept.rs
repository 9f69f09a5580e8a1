//! Takes connections: a place first, then a connection, so that what there is no place for waits in the system's queue and
//! not in this process.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bounds;
use crate::connection::{self, Answers};
use crate::door::Peer;
use crate::meters::Present;
use crate::places::Places;
use crate::secure;
use crate::stage::Current;

/// The first pause after the system refused a connection, and the longest.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Told once that the server stops. Clones are told too.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Whoever has the sender stops the server, also by dropping it.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Ends when the server stops.
    pub(crate) async fn stopped(&mut self) {
        let _gone_is_stopped = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// One listener at work.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    /// Which of the listeners.
    pub(crate) index: usize,
    pub(crate) current: Current,
    /// Places for connections, shared by all listeners.
    pub(crate) places: Places,
}

impl Acceptor {
    /// Takes connections until the server stops; then waits for those that are left, as long as they may go on.
    pub(crate) async fn run(self, stop: Stop) {
        let mut connections = JoinSet::new();
        let mut stopping = stop.clone();
        let mut stopped = std::pin::pin!(stopping.stopped());
        loop {
            let accepted = tokio::select! {
                () = &mut stopped => break,
                Some(_ended) = connections.join_next() => continue,
                accepted = self.accept() => accepted,
            };
            let Some((stream, peer, place)) = accepted else { break };
            let answers = Answers::Listener {
                current: self.current.clone(),
                index: self.index,
                certificate: None,
            };
            let tls = self.current.stage().tls(self.index);
            let stop = stop.clone();
            connections.spawn(async move {
                let (_place, _present) = (place, Present::connection());
                // Without it, small answers wait for the other side's acknowledgement.
                let _refused = stream.set_nodelay(true);
                match tls {
                    // Apart, so that connections without TLS, of which there may be many, do not take its memory.
                    Some(tls) => Box::pin(secure::serve(stream, Peer(peer), &tls, answers, stop)).await,
                    None => connection::serve(stream, Peer(peer), answers, stop).await,
                }
            });
        }
        drop(self.listener);
        let drain_ms = self.current.stage().bounds().drain_ms;
        let rest = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(bounds::ms(drain_ms), rest).await.is_err() {
            tracing::warn!(
                left = connections.len(),
                "connections were cut off: [serve.limits] drain_ms"
            );
            connections.shutdown().await;
        }
    }

    /// The next connection with its place; none: there are no more places for ever.
    async fn accept(&self) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let place = self.places.take().await?;
        let mut pause = PAUSE;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return Some((stream, peer, place)),
                // Out of descriptors, or a peer that left at once: neither ends the server.
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
            }
        }
    }
}
