//! What becomes of certificates and OCSP responses when time goes by and no file changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aral_contract::{Clock, EventKind};
use aral_runtime::SystemClock;
use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType, date_time_ymd};

use super::super::ocsp::OcspError;
use super::authority::{Authority, ocsp};
use super::peer::{Peer, ask, h1};
use crate::Bounds;
use crate::tests::{Fixture, start_at};
use crate::tls::reload::Looks;
use crate::tls::{ClientAuth, Tls, TlsOptions, TlsPart};

/// The day that a test sets, in the past: whoever connects looks at the clock of this machine. Limits are given back as time passes.
#[derive(Debug)]
struct Hand {
    second: AtomicI64,
    elapsed: SystemClock,
}

impl Hand {
    fn at(time: &str) -> Arc<Self> {
        let hand = Self {
            second: AtomicI64::new(0),
            elapsed: SystemClock::new(),
        };
        hand.set(time);
        Arc::new(hand)
    }

    fn set(&self, time: &str) {
        let time: jiff::Timestamp = time.parse().unwrap();
        self.second.store(time.as_second(), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.second.load(Ordering::Relaxed)).unwrap()
    }

    fn elapsed(&self) -> Duration {
        self.elapsed.elapsed()
    }
}

/// An OCSP response without an answer, `internalError`: nobody signs it.
const NO_ANSWER: [u8; 5] = [0x30, 0x03, 0x0a, 0x01, 0x02];

async fn start(clock: &Arc<Hand>, options: &TlsOptions) -> Fixture {
    let bounds = Bounds {
        // Longer than it takes to replace two files.
        tls_look_ms: 250,
        ..Bounds::default()
    };
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    start_at(clock, bounds, |listener, _| listener.tls = Some(options.clone())).await
}

/// Counts records of a rule in what was recorded, until there are as many.
async fn recorded(it: &Fixture, rule: &str, wanted: usize) {
    let mut count = 0;
    for _ in 0..2000 {
        let of_rule = |kind: &EventKind| matches!(kind, EventKind::Security { rule: is, .. } if *is == rule);
        count += it.sink.take().iter().filter(|kind| of_rule(kind)).count();
        assert!(count <= wanted, "{count} of {rule}");
        if count == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{count} of {rule}");
}

/// What a new connection is shown: certificate and OCSP response.
async fn shown(it: &Fixture, peer: &Peer) -> (Vec<u8>, Vec<u8>) {
    let stream = peer.connect(it.address).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let stapled = peer.stapled.lock().unwrap().clone();
    (certificate, stapled)
}

async fn until_shown(it: &Fixture, peer: &Peer, wanted: impl Fn(&(Vec<u8>, Vec<u8>)) -> bool) {
    for _ in 0..2000 {
        if wanted(&shown(it, peer).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is never shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ocsp_response_that_is_over_is_not_sent_and_keeps_nothing_else_from_holding() {
    let authority = Authority::new("root");
    let clock = Hand::at("2025-06-01T00:00:00Z");
    let first = ocsp(1, true, "20250101000000Z", "20250701000000Z");
    authority.write("ocsp.der", &first);
    let options = authority.stapled(authority.mutual(ClientAuth::Required));
    let it = start(&clock, &options).await;
    let name = SanType::URI("spiffe://example/agent".try_into().unwrap());
    let pair = authority.client(5, vec![name]);
    let peer = Peer::new(&authority, Some(&pair));
    assert_eq!(shown(&it, &peer).await.1, first);
    assert!(peer.get(it.address, "/ready", None).await.is_some());
    it.sink.take();

    clock.set("2025-07-02T00:00:00Z");
    assert!(shown(&it, &peer).await.1.is_empty(), "at once");
    recorded(&it, "tls.ocsp", 1).await;
    // The same files under another configuration.
    it.renew(|_| ());
    assert!(shown(&it, &peer).await.1.is_empty());
    recorded(&it, "tls.ocsp", 1).await;
    // A list of what was revoked is taken by who looks at the files.
    authority.write("revoked.pem", authority.revoked(&[5], 2100));
    for _ in 0..2000 {
        if peer.get(it.address, "/ready", None).await.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(peer.get(it.address, "/ready", None).await.is_none(), "it is revoked");
    recorded(&it, "tls.ocsp", 1).await;
    // And a newer response, by itself.
    let second = ocsp(1, true, "20250701000000Z", "20250801000000Z");
    authority.write("ocsp.der", &second);
    until_shown(&it, &peer, |(_, stapled)| *stapled == second).await;
}

#[test]
fn what_the_files_of_a_listener_say_has_the_end_that_stands_in_it() {
    let authority = Authority::new("root");
    authority.write("ocsp.der", ocsp(1, true, "20250610000000Z", "20250620000000Z"));
    let options = authority.stapled(authority.mutual(ClientAuth::Required));
    let until = |year| authority.sign(1, |params| params.not_after = date_time_ymd(year, 1, 1));
    let own = until(2030);
    authority.install(&own);
    authority.write("revoked.pem", authority.revoked(&[5], 2028));
    let ends = || {
        let terms = options.terms().unwrap().into_iter();
        let ends: Vec<_> = terms.map(|term| (term.part, term.file, term.to.to_string())).collect();
        ends
    };
    let of = |part, name: &str, end: &str| (part, authority.path(name), end.to_owned());
    let response = of(TlsPart::OcspResponse, "ocsp.der", "2025-06-20T00:00:00Z");
    let list = of(TlsPart::RevocationList, "revoked.pem", "2028-01-01T00:00:00Z");
    let certificate = of(TlsPart::Certificate, "chain.pem", "2030-01-01T00:00:00Z");
    assert_eq!(ends(), [certificate.clone(), response.clone(), list.clone()]);
    // Each certificate that leads to the root counts, and the root behind them does not.
    let root = authority.sign(1, |params| {
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, "root");
        params.not_after = date_time_ymd(2027, 1, 1);
    });
    authority.write("chain.pem", format!("{}{}{}", own.pem, until(2029).pem, root.pem));
    let between = of(TlsPart::Certificate, "chain.pem", "2029-01-01T00:00:00Z");
    assert_eq!(ends(), [certificate, between, response.clone(), list.clone()]);
    // A certificate that the listener shows as its own counts, whoever signed it.
    authority.install(&root);
    let own = of(TlsPart::Certificate, "chain.pem", "2027-01-01T00:00:00Z");
    assert_eq!(ends(), [own.clone(), response, list.clone()]);
    // A response that is none hides no other end, nor does one that is not there.
    authority.write("ocsp.der", NO_ANSWER);
    assert_eq!(ends(), [own.clone(), list.clone()]);
    std::fs::remove_file(authority.path("ocsp.der")).unwrap();
    assert_eq!(ends(), [own.clone(), list.clone()]);
    // Nor has a list an end that an authority has replaced by a newer one. Another authority has its own.
    let older = authority.issued(&[5], 1999, 2011);
    let other = Authority::new("other").issued(&[], 1999, 2012);
    authority.write(
        "revoked.pem",
        format!("{older}{}{other}", authority.revoked(&[5], 2028)),
    );
    let other = of(TlsPart::RevocationList, "revoked.pem", "2012-01-01T00:00:00Z");
    assert_eq!(ends(), [own.clone(), list, other]);
    // Each part of the certificates has a newest list, and a list of all is one for each part.
    let parts = [
        ("http://a/1", 2000, 2031),
        ("http://a/2", 2001, 2032),
        ("http://a/2", 2000, 2033),
    ];
    let parts = parts.map(|(address, year, next_year)| authority.issued_in_part(address, year, next_year));
    let end = |year| {
        of(
            TlsPart::RevocationList,
            "revoked.pem",
            &format!("{year}-01-01T00:00:00Z"),
        )
    };
    authority.write("revoked.pem", parts.concat());
    assert_eq!(ends(), [own.clone(), end(2031), end(2032)]);
    let all = |year| authority.issued(&[5], year, 2034);
    authority.write("revoked.pem", parts.concat() + &all(2001));
    assert_eq!(ends(), [own.clone(), end(2032), end(2034)]);
    authority.write("revoked.pem", parts.concat() + &all(2002));
    assert_eq!(ends(), [own, end(2034)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ocsp_response_that_is_none_or_not_good_is_not_sent_and_keeps_no_list_from_being_taken() {
    let revoked = ocsp(1, false, "20250101000000Z", "20250701000000Z");
    let another = ocsp(2, true, "20250101000000Z", "20250701000000Z");
    let old = ocsp(1, true, "20250101000000Z", "20250102000000Z");
    for (bad, why) in [
        (Some(b"no DER".to_vec()), OcspError::Form.to_string()),
        (Some(NO_ANSWER.to_vec()), OcspError::Unsuccessful.to_string()),
        (Some(another), OcspError::Other.to_string()),
        (Some(old), OcspError::Time.to_string()),
        (Some(revoked), OcspError::NotGood.to_string()),
        // Whoever answers the one who fetches it says how much, and a program that fails may leave no file.
        (Some(vec![0; (4 << 20) + 1]), "ocsp.der".to_owned()),
        (None, "ocsp.der".to_owned()),
    ] {
        let authority = Authority::new("root");
        let hand = Hand::at("2025-06-01T00:00:00Z");
        let good = ocsp(1, true, "20250101000000Z", "20250701000000Z");
        authority.write("ocsp.der", &good);
        let options = authority.stapled(authority.mutual(ClientAuth::Required));
        // Nobody looks by itself.
        let bounds = Bounds {
            tls_look_ms: 3_600_000,
            ..Bounds::default()
        };
        let clock = Arc::clone(&hand) as Arc<dyn Clock>;
        let it = start_at(clock, bounds, |listener, _| listener.tls = Some(options)).await;
        let name = || SanType::URI("spiffe://example/agent".try_into().unwrap());
        let peers = [5, 6, 7].map(|serial| Peer::new(&authority, Some(&authority.client(serial, vec![name()]))));
        let comes_in = async |peer: &Peer| peer.get(it.address, "/ready", None).await.is_some();
        assert_eq!(shown(&it, &peers[0]).await.1, good);
        it.sink.take();

        match bad {
            Some(bad) => authority.write("ocsp.der", bad),
            None => std::fs::remove_file(authority.path("ocsp.der")).unwrap(),
        }
        authority.write("revoked.pem", authority.revoked(&[5], 2100));
        it.reloader.reload().unwrap();
        assert!(!comes_in(&peers[0]).await, "{why}");
        // The response of before is good for as long as it was, unless the new one says that the certificate is not.
        let sent = if why == OcspError::NotGood.to_string() {
            Vec::new()
        } else {
            good
        };
        assert_eq!(shown(&it, &peers[1]).await.1, sent, "{why}");
        let reasons = || {
            let told = |kind| match kind {
                EventKind::Security {
                    rule: "tls.ocsp",
                    reason,
                    ..
                } => Some(reason.unwrap()),
                _ => None,
            };
            let reasons: Vec<String> = it.sink.take().into_iter().filter_map(told).collect();
            reasons
        };
        let told = reasons();
        assert!(told.len() == 1 && told[0].contains(&why), "{why}: {told:?}");
        // Nor does the response keep out a configuration with the same lines, nor one that names a further list.
        authority.write("revoked.pem", authority.revoked(&[5, 6], 2100));
        it.renew(|_| ());
        assert!(!comes_in(&peers[1]).await, "{why}");
        assert_eq!(shown(&it, &peers[2]).await.1, sent, "{why}");
        // The moment in which the one of before is over is told as well.
        let _looks = it.reloader.look(Looks::new());
        assert_eq!(reasons().len(), 1, "{why}");
        hand.set("2025-07-02T00:00:00Z");
        assert!(shown(&it, &peers[2]).await.1.is_empty(), "{why}");
        let _looks = it.reloader.look(Looks::new());
        assert_eq!(reasons().len(), usize::from(!sent.is_empty()), "{why}");
        authority.write("more.pem", authority.issued(&[5, 6, 7], 2010, 2100));
        let more = it.prepare(|options| {
            let clients = options.listeners[0].tls.as_mut().unwrap().clients.as_mut().unwrap();
            clients.crl_files.push(authority.path("more.pem"));
        });
        assert!(more.unwrap().commit().is_empty());
        assert!(!comes_in(&peers[2]).await, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_names_another_ocsp_response_than_before_is_refused_where_that_is_none() {
    let authority = Authority::new("root");
    let good = ocsp(1, true, "20250101000000Z", "20250701000000Z");
    for name in ["ocsp.der", "good.der"] {
        authority.write(name, &good);
    }
    authority.write("bad.der", NO_ANSWER);
    let named = |name: &str| TlsOptions {
        ocsp_file: Some(authority.path(name)),
        ..authority.options()
    };
    for before in [None, Some(authority.options()), Some(named("ocsp.der"))] {
        let clock = Hand::at("2025-06-01T00:00:00Z") as Arc<dyn Clock>;
        let it = start_at(clock, Bounds::default(), |listener, _| listener.tls = before).await;
        for name in ["none.der", "bad.der"] {
            let refused = it.prepare(|options| options.listeners[0].tls = Some(named(name)));
            let why = aral_contract::failure::chain(&refused.unwrap_err());
            assert!(why.contains(name), "{why}");
        }
        it.prepare(|options| options.listeners[0].tls = Some(named("good.der")))
            .unwrap();
    }
}

#[test]
fn an_ocsp_response_that_came_too_early_and_is_over_later_is_told_of_again() {
    let authority = Authority::new("root");
    authority.write("ocsp.der", ocsp(1, true, "20250610000000Z", "20250620000000Z"));
    let options = authority.stapled(authority.options());
    let tls = Tls::open(options, Hand::at("2025-06-11T00:00:00Z"), None).unwrap();
    for (day, told) in [(1, true), (2, false), (11, false), (21, true), (22, false)] {
        let time: jiff::Timestamp = format!("2025-06-{day:02}T00:00:00Z").parse().unwrap();
        let lacks = tls.settings().lacks_staple(time.as_second());
        let wanted = told.then(|| format!("{}; none is sent", OcspError::Time));
        assert_eq!(lacks, wanted, "{day}");
    }
}

#[test]
fn the_end_of_the_response_that_is_sent_in_place_of_a_bad_one_is_told_and_one_without_an_end_is_not_sent() {
    let second = |day: &str| day.parse::<jiff::Timestamp>().unwrap().as_second();
    let (june, july) = (second("2025-06-01T00:00:00Z"), second("2025-07-02T00:00:00Z"));
    for (to, is_kept) in [("20250701000000Z", true), ("", false)] {
        let authority = Authority::new("root");
        authority.write("ocsp.der", ocsp(1, true, "20250101000000Z", to));
        let options = authority.stapled(authority.options());
        let clock = Hand::at("2025-06-01T00:00:00Z");
        let tls = Arc::new(Tls::open(options, clock, None).unwrap());
        assert_eq!(tls.settings().lacks_staple(june), None, "{to}");
        authority.write("ocsp.der", NO_ANSWER);
        tls.read_again().unwrap().take();
        let why = |instead| Some(format!("{}; {instead}", OcspError::Unsuccessful));
        let none = why("none is sent");
        let kept = why("the one before it is sent while it is in its time");
        let lacks = || tls.settings().lacks_staple(june);
        assert_eq!(lacks(), if is_kept { kept } else { none.clone() }, "{to}");
        assert_eq!(lacks(), None, "{to}");
        assert_eq!(tls.settings().lacks_staple(july), none.filter(|_| is_kept), "{to}");
        assert_eq!(tls.settings().lacks_staple(july), None, "{to}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_came_too_early_is_taken_when_its_time_has_come() {
    let authority = Authority::new("root");
    let clock = Hand::at("2025-06-01T00:00:00Z");
    let it = start(&clock, &authority.options()).await;
    let peer = Peer::new(&authority, None);
    let (before, _) = shown(&it, &peer).await;
    it.sink.take();
    let next = authority.sign(2, |params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(2025, 6, 2);
    });
    authority.install(&next);
    recorded(&it, "tls.reload", 1).await;
    assert_eq!(shown(&it, &peer).await.0, before);
    clock.set("2025-06-02T00:00:01Z");
    until_shown(&it, &peer, |(certificate, _)| *certificate == *next.certificate).await;
    recorded(&it, "tls.reload", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_a_clock_ahead_refused_is_taken_once_the_clock_is_right_again() {
    let authority = Authority::new("root");
    let clock = Hand::at("2025-06-01T00:00:00Z");
    let it = start(&clock, &authority.options()).await;
    let peer = Peer::new(&authority, None);
    let (before, _) = shown(&it, &peer).await;
    it.sink.take();
    clock.set("2150-01-01T00:00:00Z");
    // Whoever connects takes it, by the clock of this machine.
    let next = authority.sign(2, |params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = date_time_ymd(2140, 1, 1);
    });
    authority.install(&next);
    recorded(&it, "tls.reload", 1).await;
    assert_eq!(shown(&it, &peer).await.0, before);
    clock.set("2025-06-02T00:00:00Z");
    until_shown(&it, &peer, |(certificate, _)| *certificate == *next.certificate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ran_out_keeps_no_configuration_from_holding() {
    let authority = Authority::new("root");
    let clock = Hand::at("2025-06-01T00:00:00Z");
    let options = authority.options();
    authority.install(&authority.sign(1, |params| params.not_after = date_time_ymd(2025, 6, 2)));
    let it = start(&clock, &options).await;
    it.sink.take();
    clock.set("2025-06-03T00:00:00Z");
    recorded(&it, "tls.certificate", 1).await;
    it.renew(|listener| listener.mcp = false);
    recorded(&it, "tls.certificate", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ran_out_keeps_nothing_that_was_revoked_from_being_taken() {
    let authority = Authority::new("root");
    let options = authority.mutual(ClientAuth::Required);
    // Whoever connects takes it, by the clock of this machine.
    let until = |serial, year| {
        authority.sign(serial, |params| {
            params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.not_after = date_time_ymd(year, 1, 1);
        })
    };
    authority.install(&until(1, 2090));
    authority.write("revoked.pem", authority.revoked(&[], 2150));
    let clock = Hand::at("2025-06-01T00:00:00Z");
    // Nobody looks by itself.
    let bounds = Bounds {
        tls_look_ms: 3_600_000,
        ..Bounds::default()
    };
    let start = start_at(Arc::clone(&clock) as Arc<dyn Clock>, bounds, |listener, callers| {
        listener.tls = Some(options.clone());
        callers[0].certificates = vec!["uri:spiffe://example/agent".parse().unwrap()];
    });
    let it = start.await;
    let name = SanType::URI("spiffe://example/agent".try_into().unwrap());
    let pair = authority.client(2, vec![name]);
    let peer = Peer::new(&authority, Some(&pair));
    let mut open = h1(peer.connect(it.address).await.unwrap()).await.unwrap();
    assert_eq!(ask(&mut open, "/v1/capabilities", None).await.unwrap().status, 200);

    clock.set("2095-01-01T00:00:00Z");
    authority.write("revoked.pem", authority.revoked(&[2], 2150));
    it.reloader.reload().unwrap();
    assert_eq!(ask(&mut open, "/v1/capabilities", None).await.unwrap().status, 401);
    // Nor does it keep out a line that names a further list.
    authority.write("more.pem", authority.revoked(&[], 2150));
    let more = it.prepare(|options| {
        let clients = options.listeners[0].tls.as_mut().unwrap().clients.as_mut().unwrap();
        clients.crl_files.push(authority.path("more.pem"));
    });
    assert!(more.unwrap().commit().is_empty());
    // Another one that is over is none.
    authority.install(&until(3, 2085));
    let refused = it.reloader.reload().unwrap_err();
    assert!(refused.to_string().contains("and not now"), "{refused}");
}
