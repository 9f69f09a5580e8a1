//! The handshake before the first request: bounded in time and for each address, recorded where a certificate was refused, and
//! the choice of the protocol that was agreed on in it.

use std::io;
use std::sync::Arc;

use aral_contract::event::AuthenticationMethod;
use aral_runtime::entropy;
use tokio::net::TcpStream;

use crate::accept::Stop;
use crate::bounds;
use crate::connection::{self, Answers};
use crate::door::{Peer, Said};
use crate::http2;
use crate::limit;
use crate::tls::Tls;

/// Serves what comes out of a handshake, if one may begin and ends in time.
pub(crate) async fn serve(stream: TcpStream, peer: Peer, tls: &Arc<Tls>, answers: Answers, mut stop: Stop) {
    if answers.door().is_some_and(|door| !limit::handshake(&door, peer)) {
        return tracing::debug!(peer = %peer.0, "too many handshakes of its address");
    }
    // What waits for its next request for long keeps no memory for what it does not do: each of these has its own.
    let handshake = Box::pin(tls.accept(stream));
    let handshake = tokio::time::timeout(bounds::ms(answers.bounds().handshake_ms), handshake);
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stop.stopped() => return,
    };
    let (stream, certificate) = match shaken {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => return refused(&answers, peer, &error),
        Err(_elapsed) => return tracing::debug!(peer = %peer.0, "a handshake that takes too long"),
    };
    let answers = answers.secured(certificate);
    let stream = Box::new(stream);
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(http2::serve(stream, peer, answers, stop)).await;
    } else {
        connection::serve(stream, peer, answers, stop).await;
    }
}

/// Who shows a certificate that is not valid, or none where one is needed, says who they are and is not believed. That is on record and
/// keeps nobody out. It is no guess, since nobody finds the key of a good certificate by trying. Others have the same address, to call or
/// to watch the server, and only a handshake tells them from a stranger.
fn refused(answers: &Answers, peer: Peer, error: &io::Error) {
    let cause = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match cause {
        Some(error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
            let said = Said {
                method: AuthenticationMethod::Certificate,
                user: None,
                agent: None,
            };
            if let Some(door) = answers.door() {
                let reason = Some(error.to_string());
                door.shared
                    .record_authentication(entropy::trace_id(), peer, said, reason);
            }
        }
        Some(_) | None => tracing::debug!(peer = %peer.0, %error, "a handshake failed"),
    }
}
