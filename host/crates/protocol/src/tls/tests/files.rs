//! The files: what is refused with the step that repairs it, and how they are renewed under open connections.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::{Clock, EventKind};
use aral_runtime::SystemClock;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use rcgen::{SanType, date_time_ymd};

use super::authority::{Authority, ocsp};
use super::peer::{Peer, ask, h1};
use crate::tests::{Fixture, start_as, start_with};
use crate::tls::reload::{Looks, take};
use crate::tls::{ClientAuth, Tls, TlsOptions};
use crate::{BindError, Bounds, Caller, ListenerOptions};

/// Why the files are refused, and what repairs it.
fn refused(options: &TlsOptions) -> (String, String) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let error = Tls::open(options.clone(), clock, None).expect_err("it is refused");
    (aral_contract::failure::chain(&error), error.hint())
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let authority = Authority::new("root");
    let other = Authority::new("other");
    let good = authority.mutual(ClientAuth::Required);
    let with_ocsp = authority.stapled(good.clone());
    let check = |case: &str, options: &TlsOptions, message: &str, hint: &str| {
        let (said, line) = refused(options);
        assert!(said.contains(message), "{case}: {said}");
        assert!(line.contains(hint), "{case}: {line}");
        authority.mutual(ClientAuth::Required);
    };
    std::fs::set_permissions(&good.key_file, PermissionsExt::from_mode(0o644)).unwrap();
    check("a key that others read", &good, "has mode 0644", "chmod 600");
    std::fs::set_permissions(authority.path("clients.pem"), PermissionsExt::from_mode(0o666)).unwrap();
    check("roots that others write", &good, "has mode 0666", "chmod go-w");
    std::fs::remove_file(&good.certificate_file).unwrap();
    check("no file", &good, "cannot open", "[serve.listener.tls]");
    authority.write("chain.pem", "no PEM");
    check("no certificate", &good, "has no certificate", "certificate");
    authority.write("key.pem", "no PEM");
    check("no key", &good, "has no private key", "private key");
    authority.write(
        "chain.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    check("no X.509", &good, "cannot be read", "certificate_file");
    authority.write("chain.pem", &authority.server(2).pem);
    check(
        "another's key",
        &good,
        "is not the key of the first certificate",
        "key_file",
    );
    authority.write("chain.pem", &authority.server(2).pem);
    let (said, _) = refused(&good);
    assert!(!said.contains("KeyMismatch"), "{said}");
    let root = std::fs::read_to_string(authority.path("clients.pem")).unwrap();
    let own = std::fs::read_to_string(&good.certificate_file).unwrap();
    authority.write("chain.pem", format!("{root}{own}"));
    let first = "the listener's own certificate first";
    check(
        "the authority first",
        &good,
        "is not the key of the first certificate",
        first,
    );
    // What `openssl pkey -aes256` writes, and what `openssl ec -aes256` does.
    for (begin, field) in [("ENCRYPTED PRIVATE", ""), ("EC PRIVATE", "Proc-Type: 4,ENCRYPTED\n\n")] {
        let key = format!("-----BEGIN {begin} KEY-----\n{field}AAAA\n-----END {begin} KEY-----\n");
        authority.write("key.pem", key);
        check(begin, &good, "has a passphrase", "openssl pkey -in");
    }
    authority.write("key.pem", include_str!("rsa_1024.pem"));
    check("a short key", &good, "of a kind that is not taken", "RSA of 2,048");
    for (from, to) in [(2000, 2001), (2100, 2101)] {
        let pair = authority.sign(1, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        });
        authority.install(&pair);
        check("not in its time", &good, "and not now", "renew the certificate");
    }
    authority.write("clients.pem", "");
    check("no roots", &good, "has no certificate", "certificate");
    authority.write(
        "revoked.pem",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    );
    check(
        "no list",
        &good,
        "certificates of callers cannot be checked",
        "crl_files",
    );
    authority.write("revoked.pem", "-----BEGIN X-----\nAAAA\n-----END X-----\n");
    check(
        "another thing in PEM",
        &good,
        "has no list of revoked certificates",
        "list",
    );
    authority.write("revoked.pem", other.revoked(&[], 2100));
    let now = |serial, good| ocsp(serial, good, "20250101000000Z", "21000101000000Z");
    for (case, response, message) in [
        ("no OCSP", b"no DER".to_vec(), "it is not a response in DER"),
        ("no answer", vec![0x30, 0x03, 0x0a, 0x01, 0x06], "has no answer"),
        ("another certificate", now(2, true), "about another certificate"),
        ("revoked", now(1, false), "revoked or unknown"),
        (
            "old",
            ocsp(1, true, "20250101000000Z", "20250102000000Z"),
            "not in its time",
        ),
        (
            "of the future",
            ocsp(1, true, "21000101000000Z", "21010101000000Z"),
            "not in its time",
        ),
    ] {
        authority.write("ocsp.der", response);
        check(case, &with_ocsp, message, "openssl ocsp");
    }
    authority.write("ocsp.der", now(1, true));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Tls::open(with_ocsp, clock, None).expect("everything is in order");
}

#[test]
fn a_response_that_is_cut_or_changed_anywhere_is_an_error_or_none_and_never_more() {
    let response = ocsp(1, true, "20250101000000Z", "21000101000000Z");
    let check = |bytes: &[u8]| super::super::ocsp::check(bytes, &[1]);
    assert!(check(&response).unwrap().contains(&1_800_000_000));
    for end in 0..response.len() {
        assert!(check(&response[..end]).is_err(), "cut at {end}");
    }
    for at in 0..response.len() {
        for byte in [0x00, 0x30, 0x80, 0xff] {
            let mut changed = response.clone();
            changed[at] = byte;
            let _no_panic = check(&changed);
        }
    }
}

/// The certificate that a new connection is shown.
async fn shown(peer: &Peer, address: std::net::SocketAddr) -> Vec<u8> {
    let stream = peer.connect(address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_renewed_when_told_and_connections_stay() {
    let authority = Authority::new("root");
    let options = authority.options();
    // Nobody looks by itself in this test.
    let bounds = Bounds {
        tls_look_ms: 3_600_000,
        ..Bounds::default()
    };
    let it = start_with(bounds, |listener, _| listener.tls = Some(options)).await;
    let begun = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::ConfigurationChanged {
                subject: "tls",
                before: None,
                ..
            }
        )
    };
    assert_eq!(it.sink.take().iter().filter(|kind| begun(kind)).count(), 1);
    let peer = Peer::new(&authority, None);
    let before = shown(&peer, it.address).await;
    let mut one = h1(peer.connect(it.address).await.unwrap()).await.unwrap();
    let mut two = peer.h2(it.address, &http2::Builder::new(TokioExecutor::new())).await;
    assert!(ask(&mut one, "/ready", None).await.is_some() && two.get("/ready").await.is_some());

    let next = authority.server(2);
    authority.install(&next);
    assert_eq!(shown(&peer, it.address).await, before, "nobody told it");
    it.sink.take();
    let reloader = it.reloader.clone();
    reloader.reload().unwrap();
    assert_eq!(shown(&peer, it.address).await, next.certificate.as_ref());
    let renewed = |kind: &EventKind| matches!(kind, EventKind::ConfigurationChanged { subject: "tls", before: Some(before), after } if before != after);
    assert_eq!(it.sink.take().iter().filter(|kind| renewed(kind)).count(), 1);
    reloader.reload().unwrap();
    assert_eq!(
        it.sink.take().iter().filter(|kind| renewed(kind)).count(),
        0,
        "nothing has changed"
    );

    // A bad file changes nothing.
    authority.write("key.pem", "none");
    let error = reloader.reload().unwrap_err();
    assert!(error.to_string().contains("has no private key"), "{error}");
    let refused = |kind: &EventKind| matches!(kind, EventKind::Security { rule: "tls.reload", .. });
    assert_eq!(it.sink.take().iter().filter(|kind| refused(kind)).count(), 1);
    assert_eq!(shown(&peer, it.address).await, next.certificate.as_ref());

    assert!(ask(&mut one, "/ready", None).await.is_some(), "open before everything");
    assert!(two.get("/ready").await.is_some(), "open before everything");
}

/// Why listeners could not take their files, since this was asked last: one reason for each record.
fn reasons(it: &Fixture) -> Vec<String> {
    let refused = |kind| match kind {
        EventKind::Security {
            rule: "tls.reload",
            reason,
            ..
        } => Some(reason.expect("it says why")),
        _ => None,
    };
    it.sink.take().into_iter().filter_map(refused).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_private_key_that_lost_its_form_is_told_or_recorded() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let it = start_two([&authority, &other]).await;
    let read = |name| std::fs::read_to_string(authority.path(name)).unwrap();
    let (chain, key) = (read("chain.pem"), read("key.pem"));
    let lines = "its BEGIN and END lines do not stand on lines of their own";
    let flat = key.replace('\n', " ");
    // A variable that was not quoted, one whose line ends stay written as two characters, a line too many, a key behind its certificate.
    for (name, bad, why, hint) in [
        ("key.pem", flat.clone(), lines, "write it again with its line ends"),
        (
            "key.pem",
            key.replace('\n', "\\n"),
            lines,
            "write it again with its line ends",
        ),
        (
            "key.pem",
            key.replacen('\n', "\n!!!!\n", 1),
            "is no base64",
            "openssl pkey",
        ),
        (
            "chain.pem",
            format!("{chain}{flat}"),
            lines,
            "write it again with its line ends",
        ),
    ] {
        authority.write("chain.pem", &chain);
        authority.write("key.pem", &key);
        authority.write(name, &bad);
        let error = it.reloader.reload().unwrap_err();
        let mut said = reasons(&it);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(error.hint().contains(hint), "{bad}: {}", error.hint());
        said.push(aral_contract::failure::chain(&error));
        for said in said {
            assert!(said.contains(name) && said.ends_with(why), "{said}");
            assert!(key.lines().all(|line| !said.contains(line)), "{said}");
            // Bytes as a list of numbers.
            assert!(!said.contains('['), "{said}");
        }
    }
}

/// How many of them there are.
fn told(it: &Fixture) -> usize {
    reasons(it).len()
}

/// Two listeners that ask for certificates, each with the files of one authority. The caller comes in at both. Nobody looks at the files
/// by itself.
async fn start_two(authorities: [&Authority; 2]) -> Fixture {
    start_two_for(authorities, |caller| {
        caller.certificates = vec!["uri:spiffe://example/agent".parse().unwrap()];
        caller.client_ca_files = authorities.map(|authority| authority.path("clients.pem")).into();
    })
    .await
}

/// The same for another caller.
async fn start_two_for(authorities: [&Authority; 2], change: impl FnOnce(&mut Caller)) -> Fixture {
    let bounds = Bounds {
        tls_look_ms: 3_600_000,
        ..Bounds::default()
    };
    start_as(Arc::new(SystemClock::new()), bounds, |options, callers| {
        let listeners = authorities.map(|authority| ListenerOptions {
            tls: Some(authority.mutual(ClientAuth::Required)),
            ..options.listeners[0].clone()
        });
        options.listeners = listeners.into();
        change(&mut callers[0]);
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_one_listener_keep_no_other_from_revoking() {
    let name = || SanType::URI("spiffe://example/agent".try_into().unwrap());
    let told_to = |it: &Fixture| {
        it.reloader.reload().unwrap_err();
    };
    let by_itself = |it: &Fixture| {
        let looks = it.reloader.look(Looks::new());
        it.reloader.look(it.reloader.look(looks));
    };
    let configured = |it: &Fixture| {
        let prepared = it.prepare(|options| options.listeners[0].mcp = false);
        let left_out = prepared.unwrap().commit();
        let [said] = left_out.as_slice() else {
            panic!("{left_out:?}")
        };
        assert!(
            said.contains(&it.address.to_string()) && said.contains("key.pem"),
            "{said}"
        );
    };
    type Way<'a> = (&'a str, &'a dyn Fn(&Fixture));
    let ways: [Way<'_>; 3] = [
        ("told to", &told_to),
        ("by itself", &by_itself),
        ("another configuration", &configured),
    ];
    for (way, act) in ways {
        let (bad, good) = (Authority::new("bad"), Authority::new("good"));
        let it = start_two([&bad, &good]).await;
        let [of_bad, of_good] = [&bad, &good].map(|authority| authority.client(2, vec![name()]));
        let peer = Peer::new(&good, Some(&of_good));
        let mut open = h1(peer.connect(it.addresses[1]).await.unwrap()).await.unwrap();
        assert_eq!(ask(&mut open, "/v1/capabilities", None).await.unwrap().status, 200);
        std::fs::remove_file(bad.path("key.pem")).unwrap();
        good.write("revoked.pem", good.revoked(&[2], 2100));
        it.sink.take();
        act(&it);
        assert_eq!(told(&it), 1, "{way}");
        assert_eq!(
            ask(&mut open, "/v1/capabilities", None).await.unwrap().status,
            401,
            "{way}"
        );
        let other = Peer::new(&bad, Some(&of_bad));
        let answer = other.get(it.addresses[0], "/v1/capabilities", None).await.unwrap();
        assert_eq!(answer.status, 200, "{way}: with the files of before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_while_a_configuration_was_prepared_stays_so() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let it = start_two([&authority, &other]).await;
    let pair = authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]);
    let peer = Peer::new(&authority, Some(&pair));
    let get = async || {
        let answer = peer.get(it.address, "/v1/capabilities", None).await;
        answer.map(|answer| answer.status.as_u16())
    };
    assert_eq!(get().await, Some(200));
    let prepared = it.prepare(|_| ()).unwrap();
    authority.write("revoked.pem", authority.revoked(&[2], 2100));
    it.reloader.reload().unwrap();
    assert!(prepared.commit().is_empty());
    assert_eq!(get().await, None);

    authority.write("revoked.pem", authority.revoked(&[], 2100));
    let prepared = it.prepare(|_| ()).unwrap();
    assert_eq!(get().await, None, "it does not hold yet");
    assert!(prepared.commit().is_empty());
    assert_eq!(get().await, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_look_read_earlier_undoes_nothing_of_a_configuration_nor_the_other_way_round() {
    for look_is_first in [false, true] {
        let (authority, other) = (Authority::new("root"), Authority::new("other"));
        let it = start_two([&authority, &other]).await;
        let pair = authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]);
        let peer = Peer::new(&authority, Some(&pair));
        let get = async || {
            let answer = peer.get(it.address, "/v1/capabilities", None).await;
            answer.map(|answer| answer.status.as_u16())
        };
        let stage = it.reloader.stage();
        let door = &stage.doors[0];
        let tls = door.tls.as_deref().unwrap();
        let look = tls.read();
        authority.write("revoked.pem", authority.revoked(&[2], 2100));
        let prepared = it.prepare(|_| ()).unwrap();
        if look_is_first {
            take(door, tls, look).unwrap();
            assert_eq!(get().await, Some(200), "it read the list of before");
            assert!(prepared.commit().is_empty());
        } else {
            assert!(prepared.commit().is_empty());
            assert_eq!(get().await, None);
            take(door, tls, look).unwrap();
        }
        assert_eq!(get().await, None, "the look first: {look_is_first}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_configuration_read_holds_also_where_a_look_was_done_first_and_the_files_are_gone_by_then() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let it = start_two([&authority, &other]).await;
    let pair = authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]);
    let peer = Peer::new(&authority, Some(&pair));
    let stage = it.reloader.stage();
    let door = &stage.doors[0];
    let tls = door.tls.as_deref().unwrap();
    let look = tls.read();
    authority.write("revoked.pem", authority.revoked(&[2], 2100));
    let prepared = it.prepare(|_| ()).unwrap();
    take(door, tls, look).unwrap();
    assert!(peer.get(it.address, "/v1/capabilities", None).await.is_some());
    std::fs::remove_file(authority.path("key.pem")).unwrap();
    assert!(prepared.commit().is_empty());
    assert_eq!(told(&it), 0, "there was nothing left to be read");
    assert!(peer.get(it.address, "/v1/capabilities", None).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_a_line_names_anew_are_taken_or_nothing_is() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let it = start_two_for([&one, &other], |_| ()).await;
    std::fs::remove_file(one.path("key.pem")).unwrap();
    let moved = it.prepare(|options| options.listeners[0].tls.as_mut().unwrap().clients = None);
    let refused = moved.unwrap_err();
    assert!(
        matches!(refused, BindError::Tls { address, .. } if address == it.address),
        "{refused}"
    );
    let plain = it.prepare(|options| options.listeners[0].tls = None);
    plain.unwrap().commit();
    let back = it.prepare(|_| ()).unwrap_err();
    assert!(
        matches!(back, BindError::Tls { .. }),
        "there is nothing to go on with: {back}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_taken_once_are_taken_again_after_others_were_put_back() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let it = start_two([&authority, &other]).await;
    let pair = authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]);
    let comes_in = async || {
        let peer = Peer::new(&authority, Some(&pair));
        peer.get(it.address, "/v1/capabilities", None).await.is_some()
    };
    let before = authority.revoked(&[], 2100);
    let after = authority.revoked(&[2], 2100);
    let mut looks = Looks::new();
    authority.write("revoked.pem", &after);
    for _ in 0..2 {
        assert!(comes_in().await, "two looks have to see it");
        looks = it.reloader.look(looks);
    }
    assert!(!comes_in().await);
    // Put back, taken with another configuration, and revoked again before anybody looks.
    authority.write("revoked.pem", &before);
    it.renew(|_| ());
    assert!(comes_in().await);
    authority.write("revoked.pem", &after);
    for _ in 0..2 {
        looks = it.reloader.look(looks);
    }
    assert!(!comes_in().await);
    // What was refused is tried again after it was put right.
    for _ in 0..2 {
        it.sink.take();
        authority.write("revoked.pem", "none");
        for _ in 0..4 {
            looks = it.reloader.look(looks);
        }
        assert_eq!(told(&it), 1, "once");
        authority.write("revoked.pem", &after);
        for _ in 0..2 {
            looks = it.reloader.look(looks);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reason_for_which_files_cannot_be_read_is_told_once() {
    let authority = Authority::new("root");
    let options = authority.options();
    // Nobody looks by itself in this test.
    let bounds = Bounds {
        tls_look_ms: 3_600_000,
        ..Bounds::default()
    };
    let it = start_with(bounds, |listener, _| listener.tls = Some(options.clone())).await;
    it.sink.take();
    let mut looks = Looks::new();
    let mut told_once = |file: &str, wrong: &str| {
        for _ in 0..4 {
            looks = it.reloader.look(std::mem::take(&mut looks));
        }
        let told = reasons(&it);
        let [why] = told.as_slice() else { panic!("{told:?}") };
        assert!(why.contains(file) && why.contains(wrong), "{why}");
    };
    std::fs::remove_file(&options.certificate_file).unwrap();
    told_once("chain.pem", "No such file");
    authority.install(&authority.server(2));
    std::fs::set_permissions(&options.key_file, PermissionsExt::from_mode(0o644)).unwrap();
    told_once("key.pem", "has mode 0644");
    std::fs::remove_file(&options.certificate_file).unwrap();
    told_once("chain.pem", "No such file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_look_ms() {
    let authority = Authority::new("root");
    let options = authority.options();
    let bounds = Bounds {
        tls_look_ms: 50,
        ..Bounds::default()
    };
    let it = start_with(bounds, |listener, _| listener.tls = Some(options)).await;
    let peer = Peer::new(&authority, None);
    let first = shown(&peer, it.address).await;
    it.sink.take();
    // The certificate without its key: what is half replaced is recorded and not taken.
    let next = authority.server(2);
    authority.write("chain.pem", &next.pem);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(shown(&peer, it.address).await, first);
    let events = it.sink.take();
    let refused = events
        .iter()
        .filter(|kind| matches!(kind, EventKind::Security { rule: "tls.reload", .. }));
    assert_eq!(refused.count(), 1, "tried once: {events:?}");
    authority.install(&next);
    let begun = std::time::Instant::now();
    while shown(&peer, it.address).await != next.certificate.as_ref() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody looks");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The control, where nobody looks, is the test above.
}
