//! Takes connections: a place first, then a connection, so that what there is no place for waits in the system's queue and
//! not in this process.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aral_contract::{network, rule};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::bounds;
use crate::connection::{self, Answers};
use crate::door::Peer;
use crate::meters::{self, Present};
use crate::places::Places;
use crate::secure;
use crate::stage::Current;
use crate::tally::{Beyond, Held};

/// The first pause after the system refused a connection, and the longest.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Connections that wait in the system's queue until they are taken, unless the system allows fewer (`net.core.somaxconn`). Where it is
/// full, the system says nothing to the next one, which tries again after a second.
const QUEUE: u32 = 4096;

/// Listens at an address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A server that starts again does not wait until the system has forgotten the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

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

/// A connection and what it takes as long as it is there.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    /// Of its address; none: a proxy, which connects for many.
    share: Option<Held<IpAddr>>,
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
            let Some(accepted) = accepted else { break };
            let Accepted {
                stream,
                peer,
                place,
                share,
            } = accepted;
            let answers = Answers::Listener {
                current: self.current.clone(),
                index: self.index,
                secured: false,
                certificate: None,
            };
            let tls = self.current.stage().tls(self.index);
            let stop = stop.clone();
            connections.spawn(async move {
                let (_place, _share, _present) = (place, share, Present::connection());
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
            let left = connections.len();
            // Of HTTP/2, some may be left on which nobody waits, and whose other ends do not say that they know of the end.
            if self.current.stage().shared.requests.are_free() {
                tracing::debug!(left, "connections on which no caller waits were cut off");
            } else {
                tracing::warn!(left, "connections were cut off: [serve.limits] drain_ms");
            }
            connections.shutdown().await;
        }
    }

    /// The next connection with its places; none: there are no more places for ever.
    async fn accept(&self) -> Option<Accepted> {
        let place = self.places.take().await?;
        let mut pause = PAUSE;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match self.share(peer) {
                    Ok(share) => {
                        return Some(Accepted {
                            stream,
                            peer,
                            place,
                            share,
                        });
                    }
                    Err(Crowded) => drop(stream),
                },
                // Out of descriptors, or a peer that left at once: neither ends the server.
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// A connection of an address, among those that it may have. One beyond them ends at once: to let it wait would let it take
    /// the place of another's.
    fn share(&self, peer: SocketAddr) -> Result<Option<Held<IpAddr>>, Crowded> {
        let stage = self.current.stage();
        let shared = &stage.shared;
        let peer = Peer(peer);
        if shared.proxies.trusts(peer.address()) {
            return Ok(None);
        }
        let max = shared.bounds.connections_per_address_max;
        match shared.connections_of.take(&network(peer.address()), max) {
            Ok(share) => Ok(Some(share)),
            Err(beyond) => {
                meters::rate_limited("connections_per_address_max");
                // A flood is told of once.
                if beyond == (Beyond::Own { first: true }) {
                    let listener = stage
                        .doors
                        .get(self.index)
                        .map(|door| door.listener.address.to_string());
                    shared.record_security(None, peer, rule::CONNECTIONS_ADDRESS, listener.unwrap_or_default());
                }
                Err(Crowded)
            }
        }
    }
}

/// An address has as many connections as it may.
struct Crowded;

#[cfg(test)]
mod tests {
    use super::*;

    /// More than the 128 that wait if nobody says how many.
    #[tokio::test]
    async fn hundreds_of_connections_wait_until_they_are_taken() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..300 {
            let connected = tokio::time::timeout(Duration::from_secs(10), TcpStream::connect(address)).await;
            waiting.push(connected.expect("the queue is full").unwrap());
        }
        assert_eq!(waiting.len(), 300);
    }
}
