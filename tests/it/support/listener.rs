//! A port that nobody may reach: it counts every connection that it accepts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::task::Task;

/// The listening port.
#[derive(Debug)]
pub(crate) struct Forbidden {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _task: Task,
}

impl Forbidden {
    /// On this address, at a free port.
    pub(crate) async fn start(address: &str) -> Self {
        Self::try_start(address).await.expect("a port")
    }

    /// Nothing if this machine has no such address.
    pub(crate) async fn try_start(address: &str) -> Option<Self> {
        let listener = TcpListener::bind((address, 0)).await.ok()?;
        let address = listener.local_addr().expect("a bound socket");
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let task = Task::start(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // Whoever comes through shall see that they did: the answer waits for the request, since a
                    // connection that is closed with unread bytes is reset and loses what was sent.
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nforbidden";
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Some(Self {
            address,
            accepted,
            _task: task,
        })
    }

    /// Fails the test if anybody was let in. A connection of our own comes last in the queue of the port: when it is
    /// counted, every earlier one is too, and that it is counted proves that the counter works.
    pub(crate) async fn assert_untouched(&self) {
        let own = TcpStream::connect(self.address).await.expect("the port is open");
        for _ in 0..500 {
            if self.accepted.load(Ordering::SeqCst) > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let accepted = self.accepted.load(Ordering::SeqCst);
        drop(own);
        assert_eq!(
            accepted,
            1,
            "{} accepted connections besides our own",
            accepted.saturating_sub(1)
        );
    }
}
