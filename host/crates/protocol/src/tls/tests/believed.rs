//! Whose word the names in a certificate are, where listeners believe several authorities.

use std::path::PathBuf;
use std::sync::Arc;

use aral_runtime::SystemClock;
use rcgen::SanType;

use super::authority::{Authority, Pair};
use super::peer::Peer;
use crate::tests::{Fixture, start_as};
use crate::tls::{CertificateName, ClientAuth, TlsOptions};
use crate::{BindError, Bounds, ListenerOptions};

const NAME: &str = "uri:spiffe://example/agent";

/// The caller goes by this name, by the word of these authorities, at a listener for each of these.
async fn start(listeners: [TlsOptions; 2], name: &str, files: Vec<PathBuf>) -> Fixture {
    let name: CertificateName = name.parse().unwrap();
    start_as(Arc::new(SystemClock::new()), Bounds::default(), |options, callers| {
        let listener = ListenerOptions {
            anonymous: None,
            ..options.listeners[0].clone()
        };
        let listeners = listeners.map(|tls| ListenerOptions {
            tls: Some(tls),
            ..listener.clone()
        });
        options.listeners = listeners.into();
        callers[0].certificates = vec![name];
        callers[0].client_ca_files = files;
    })
    .await
}

/// What an authority gives to whom it takes for the caller.
fn agent(authority: &Authority) -> Pair {
    authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())])
}

/// The status at a listener.
async fn status(it: &Fixture, listener: usize, authority: &Authority, pair: &Pair) -> Option<u16> {
    let peer = Peer::new(authority, Some(pair));
    let answer = peer.get(it.addresses[listener], "/v1/capabilities", None).await?;
    Some(answer.status.as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_believed_from_those_authorities_alone_that_its_caller_names() {
    let (own, partner) = (Authority::new("own"), Authority::new("partner"));
    let listeners = || [&own, &partner].map(|authority| authority.mutual(ClientAuth::Required));
    let file = |authority: &Authority| authority.path("clients.pem");
    let (agent, impostor) = (agent(&own), agent(&partner));
    let it = start(listeners(), NAME, vec![file(&own)]).await;
    assert_eq!(status(&it, 0, &own, &agent).await, Some(200));
    assert_eq!(status(&it, 1, &partner, &impostor).await, Some(401));
    let it = start(listeners(), NAME, vec![file(&partner)]).await;
    assert_eq!(status(&it, 0, &own, &agent).await, Some(401));
    assert_eq!(status(&it, 1, &partner, &impostor).await, Some(200));
    let it = start(listeners(), NAME, vec![file(&own), file(&partner)]).await;
    assert_eq!(status(&it, 0, &own, &agent).await, Some(200));
    assert_eq!(status(&it, 1, &partner, &impostor).await, Some(200));
    // A digest is of one certificate, whoever gave it.
    let digest = format!("sha256:{}", aral_contract::Digest::of(&agent.certificate));
    let it = start(listeners(), &digest, Vec::new()).await;
    assert_eq!(status(&it, 0, &own, &agent).await, Some(200));
    assert_eq!(status(&it, 1, &partner, &impostor).await, Some(401));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_word_a_name_is_has_to_be_said_where_listeners_believe_several_authorities() {
    let (own, partner) = (Authority::new("own"), Authority::new("partner"));
    let options = own.mutual(ClientAuth::Required);
    let other = partner.mutual(ClientAuth::Required);
    let file = own.path("clients.pem");
    let it = start([options.clone(), options.clone()], NAME, Vec::new()).await;
    assert_eq!(
        status(&it, 1, &own, &agent(&own)).await,
        Some(200),
        "there is one authority"
    );
    let refused = it.prepare(|options| options.listeners[1].tls = Some(other.clone()));
    let error = refused.unwrap_err();
    assert!(matches!(error, BindError::Authorities { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("the caller `somebody` goes by `uri:spiffe://example/agent`"),
        "{said}"
    );
    let line = error.hint().unwrap();
    assert!(
        line.contains("[[serve.caller]] `somebody`: client_ca_files = ["),
        "{line}"
    );

    let it = start([options.clone(), options], NAME, vec![file.clone()]).await;
    it.prepare(|options| options.listeners[1].tls = Some(other.clone()))
        .unwrap();
    let refused = it.prepare(|options| {
        for listener in &mut options.listeners {
            listener.tls = Some(other.clone());
        }
    });
    let error = refused.unwrap_err();
    assert!(
        matches!(&error, BindError::NoAuthority { file: unknown, .. } if *unknown == file),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("client_ca_file = "), "{error}");
}
