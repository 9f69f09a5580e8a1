//! A configuration that was read again, from outside: taken as a whole, or not at all.
#![expect(clippy::disallowed_methods, reason = "tests look at the files of the host")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aral_contract::document::signed::Kind;
use aral_contract::document::{PrivateKey, PublicKey};
use aral_contract::testing::ManualClock;
use aral_contract::{CapabilityId, Clock};
use aral_memory::MasterKey;
use aral_orchestration::Request;
use aral_protocol::AdminOptions;
use aral_protocol::admin::client::{self, AdminClient, Method};
use aral_runtime::files;
use jiff::SignedDuration;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::testing::{Fast, Kept, echo, echo_entry, key, signed, signed_by};

struct Lab {
    folder: tempfile::TempDir,
    kept: Arc<Kept>,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
            kept: Arc::default(),
        };
        lab.write("key.pub.pem", key(1).public().to_pem().unwrap().as_bytes());
        lab.write(&format!("{}.wasm", Digest::of(&echo())), &echo());
        lab
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        files::write_path(&path, bytes, 0o600, files::Replace::Allow).unwrap();
        path
    }

    fn manifest(&self, name: &str, serial: u64, id: &str) {
        self.manifest_by(&key(1), name, serial, id);
    }

    fn manifest_by(&self, key: &PrivateKey, name: &str, serial: u64, id: &str) {
        let body = json!({"capabilities": [echo_entry(id)]});
        self.write(name, &signed_by(key, Kind::Manifest, serial, &body));
    }

    fn persona(&self, name: &str, id: &str) {
        let body = json!({"id": id, "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
        self.write(name, &signed(Kind::Persona, 1, &body));
    }

    fn config(&self, manifests: &[&str], personas: &[&str], more: &str) -> Config {
        self.config_trusting("key.pub.pem", manifests, personas, more)
    }

    fn config_trusting(&self, key: &str, manifests: &[&str], personas: &[&str], more: &str) -> Config {
        let text = format!(
            "state_dir = \"state\"\ntrust = [{{ public_key = \"{key}\", kinds = [\"persona\", \"manifest\"] }}]\n\
             [manifests]\nfiles = {manifests:?}\n[personas]\nfiles = {personas:?}\n[audit]\nreserve_bytes = 0\n{more}\n"
        );
        Config::load(&self.write("aral.toml", text.as_bytes())).unwrap()
    }

    fn host(&self, config: Config) -> Host {
        let builder = Host::builder().config(config).sink(Arc::clone(&self.kept) as _);
        builder.build().unwrap()
    }

    fn events(&self) -> Vec<EventKind> {
        self.kept.take()
    }

    /// The subjects of what is on record under this rule, since events were looked at last.
    fn recorded(&self, of: &str) -> Vec<String> {
        let subject = |event| match event {
            EventKind::Security { rule, subject, .. } if rule == of => Some(subject),
            _ => None,
        };
        self.events().into_iter().filter_map(subject).collect()
    }

    fn lapsed(&self) -> Vec<String> {
        self.recorded(rule::DOCUMENT_LAPSED)
    }

    fn serials(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("state/serials.json")).unwrap_or_default()
    }
}

fn ids(host: &Host) -> Vec<String> {
    let list = host.capabilities();
    list.iter().map(|one| one.entry.id.to_string()).collect()
}

#[test]
fn of_several_documents_the_one_that_is_refused_is_named() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.persona("p.json", "p");
    let host = lab.host(lab.config(&[], &[], ""));
    let started = |config: &Config| {
        let config = Config {
            state_dir: None,
            audit: None,
            ..config.clone()
        };
        Host::builder().config(config).build().unwrap_err()
    };
    let unsigned = |kind, body: &Value| {
        let mut document: Value = serde_json::from_slice(&signed(kind, 1, body)).unwrap();
        document.as_object_mut().unwrap().remove("signature").unwrap();
        document.to_string().into_bytes()
    };
    let unsigned_manifest = unsigned(Kind::Manifest, &json!({"capabilities": [echo_entry("b")]}));
    let unsigned_persona = unsigned(Kind::Persona, &json!({"id": "q", "name": "P", "constraints": {}}));
    let other = json!({"id": "q", "name": "P", "constraints": {}});
    for document in [
        unsigned_manifest,
        unsigned_persona,
        b"{".to_vec(),
        signed(Kind::Persona, 1, &other),
    ] {
        let bad = lab.write("bad.json", &document);
        let shown = format!("`{}`: the ", bad.display());
        let config = lab.config(&["a.json", "bad.json"], &[], "");
        let at_start = started(&config);
        let again = host.reload(&config).unwrap_err();
        for failure in [at_start, again] {
            assert!(
                failure.message.starts_with(&format!("[manifests] {shown}")),
                "{failure}"
            );
        }
        let alone = host.register_manifest_file(&bad).unwrap_err();
        assert!(alone.message.starts_with(&shown), "{alone}");
    }
    lab.manifest("bad.json", 1, "b");
    let bad = lab.folder.path().join("bad.json");
    let shown = format!("`{}`: the document is `aral.manifest/v1`", bad.display());
    let config = lab.config(&[], &["p.json", "bad.json"], "");
    let at_start = started(&config);
    let again = host.reload(&config).unwrap_err();
    for failure in [at_start, again] {
        assert!(failure.message.starts_with(&format!("[personas] {shown}")), "{failure}");
    }
    let alone = host.session_file(&bad).unwrap_err();
    assert!(alone.message.starts_with(&shown), "{alone}");
}

#[test]
fn manifests_come_and_go_and_what_was_registered_otherwise_stays() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.manifest("b.json", 1, "b");
    lab.manifest("c.json", 1, "c");
    let first = lab.config(&["a.json", "b.json"], &[], "");
    let host = lab.host(first);
    host.register_manifest_file(&lab.folder.path().join("c.json")).unwrap();
    let before = host.capabilities();
    lab.manifest("d.json", 1, "d");
    lab.events();
    host.reload(&lab.config(&["a.json", "d.json"], &[], "[policy]\ncapabilities = [\"*\"]"))
        .unwrap();
    assert_eq!(ids(&host), ["a", "c", "d"]);
    let after = host.capabilities();
    assert!(Arc::ptr_eq(&before[0], &after[0]), "what stayed is compiled already");
    let events = lab.events();
    let registered = |id: &str| {
        events
            .iter()
            .filter(|event| matches!(event, EventKind::CapabilityRegistered { capability, .. } if capability.as_str() == id))
            .count()
    };
    assert_eq!([registered("a"), registered("c"), registered("d")], [0, 0, 1]);
    let withdrawn: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            EventKind::Lifecycle { subject, .. } => Some(subject.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(withdrawn, ["b 1.0.0"]);
    let changed: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            EventKind::ConfigurationChanged { subject, .. } => Some(*subject),
            _ => None,
        })
        .collect();
    assert_eq!(changed, ["policy", "configuration"]);
    host.reload(&lab.config(&["b.json"], &[], "")).unwrap();
    assert_eq!(ids(&host), ["b", "c"]);
}

#[test]
fn one_bad_file_and_nothing_changes() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.manifest("b.json", 5, "b");
    lab.persona("p.json", "p");
    let host = lab.host(lab.config(&["a.json"], &[], ""));
    let (serials, policy, trust) = (
        lab.serials(),
        host.policy().digest(),
        host.dispatcher().trust().digest(),
    );
    let open = "[policy]\ncapabilities = [\"*\"]";
    lab.write("bad.json", b"{}");
    let missing = Digest::of(b"nothing");
    let entry = json!({
        "id": "x", "version": "1.0.0", "shape": "tool", "component": missing, "title": "T",
        "description": "D", "input_schema": {}, "output_schema": {},
    });
    lab.write("x.json", &signed(Kind::Manifest, 1, &json!({"capabilities": [entry]})));
    for (case, manifests, personas, code) in [
        (
            "a manifest that is none",
            &["b.json", "bad.json"][..],
            &[][..],
            Code::DocumentInvalid,
        ),
        (
            "a component that is not there",
            &["b.json", "x.json"],
            &[],
            Code::ConfigInvalid,
        ),
        (
            "a persona that is none",
            &["b.json"],
            &["p.json", "bad.json"],
            Code::DocumentInvalid,
        ),
        (
            "a persona that is not there",
            &["b.json"],
            &["p.json", "none.json"],
            Code::ConfigInvalid,
        ),
    ] {
        lab.events();
        let failure = host.reload(&lab.config(manifests, personas, open)).unwrap_err();
        assert_eq!(failure.code, code, "{case}: {failure}");
        assert_eq!(ids(&host), ["a"], "{case}");
        assert!(host.sessions().is_empty(), "{case}");
        assert_eq!(host.policy().digest(), policy, "{case}");
        assert_eq!(host.dispatcher().trust().digest(), trust, "{case}");
        assert_eq!(lab.serials(), serials, "{case}");
        let refused = |event: &EventKind| matches!(event, EventKind::AdmissionRefused { subject, .. } if subject == "configuration");
        assert!(lab.events().iter().any(refused), "{case}: it is on record");
    }
    host.reload(&lab.config(&["b.json"], &["p.json"], open)).unwrap();
    assert_eq!((ids(&host), host.sessions().len()), (vec!["b".to_owned()], 1));
    lab.manifest("b.json", 4, "b");
    let failure = host.reload(&lab.config(&["b.json"], &["p.json"], open)).unwrap_err();
    assert_eq!(failure.code, Code::DocumentStale, "an older manifest");
}

#[test]
fn a_revoked_key_takes_effect_also_while_its_documents_are_named() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.persona("p.json", "p");
    let host = lab.host(lab.config(&["a.json"], &["p.json"], ""));
    let session = host.session_of(&"p".parse().unwrap()).unwrap();
    let authorize = || host.dispatcher().authorize(&session, &"a".parse().unwrap(), None);
    let revoking = format!(
        "[revoked]\nkeys = [\"{}\"]\n[policy]\ncapabilities = [\"*\"]",
        key(1).public().id()
    );
    // The second time finds what the first has left.
    for _ in 0..2 {
        lab.events();
        host.reload(&lab.config(&["a.json"], &["p.json"], &revoking)).unwrap();
        assert!(ids(&host).is_empty(), "what it signed is withdrawn");
        assert_eq!(authorize().unwrap_err().code, Code::CapabilityUnknown);
        let lapsed = lab.lapsed();
        assert!(
            lapsed.len() == 2 && lapsed[0].starts_with("manifest `") && lapsed[1].starts_with("persona `p`:"),
            "{lapsed:?}"
        );
    }
    // Another manifest, by a key that holds: the persona is still nobody.
    let other = PrivateKey::from_seed(&Zeroizing::new([2; 32]));
    lab.write("other.pub.pem", other.public().to_pem().unwrap().as_bytes());
    lab.manifest_by(&other, "b.json", 1, "b");
    let with_other = lab.config_trusting("other.pub.pem", &["b.json"], &["p.json"], &revoking);
    host.reload(&with_other).unwrap();
    assert_eq!(ids(&host), ["b"]);
    let failure = host
        .dispatcher()
        .authorize(&session, &"b".parse().unwrap(), None)
        .unwrap_err();
    assert_eq!(failure.code, Code::SignatureInvalid, "{failure}");
    // What was never taken is not taken now.
    lab.persona("q.json", "q");
    let failure = host.reload(&lab.config(&[], &["q.json"], &revoking)).unwrap_err();
    assert_eq!(failure.code, Code::SignatureInvalid, "{failure}");
    lab.manifest("a.json", 2, "a");
    let failure = host
        .reload(&lab.config(&["a.json"], &["p.json"], &revoking))
        .unwrap_err();
    assert_eq!(
        failure.code,
        Code::SignatureInvalid,
        "another issue of the manifest: {failure}"
    );
    // The same words, said to be signed by a key that is revoked, while the persona is there without a signature.
    let body = json!({"id": "dev", "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
    let document = signed(Kind::Persona, 1, &body);
    host.dangerous_development_session(&document).unwrap();
    lab.write("dev.json", &document);
    let failure = host
        .reload(&lab.config(&[], &["p.json", "dev.json"], &revoking))
        .unwrap_err();
    assert_eq!(failure.code, Code::SignatureInvalid, "it would be called: {failure}");
    // Without the revocation all is as it was.
    lab.manifest("a.json", 1, "a");
    host.reload(&lab.config(&["a.json"], &["p.json"], "[policy]\ncapabilities = [\"*\"]"))
        .unwrap();
    assert!(authorize().is_ok());
}

#[test]
fn a_key_that_is_trusted_no_longer_takes_effect_too() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.persona("p.json", "p");
    let host = lab.host(lab.config(&["a.json"], &["p.json"], ""));
    let session = host.session_of(&"p".parse().unwrap()).unwrap();
    let other = PrivateKey::from_seed(&Zeroizing::new([2; 32]));
    lab.write("other.pub.pem", other.public().to_pem().unwrap().as_bytes());
    lab.events();
    let failure = host
        .reload(&lab.config_trusting("other.pub.pem", &["a.json"], &["p.json", "none.json"], ""))
        .unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid, "{failure}");
    assert_eq!(lab.lapsed(), [""; 0], "nothing has changed");
    assert_eq!(ids(&host), ["a"]);
    // Another host with the same state has taken a newer issue of the persona: what has lapsed is not opened anew.
    let locked = host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
    let newer = [("p".parse().unwrap(), 9)].into_iter().collect();
    locked.write_personas(&newer).unwrap();
    drop(locked);
    host.reload(&lab.config_trusting("other.pub.pem", &["a.json"], &["p.json"], ""))
        .unwrap();
    assert!(ids(&host).is_empty());
    let lapsed = lab.lapsed();
    assert!(lapsed.len() == 2 && lapsed[1].contains("is not trusted"), "{lapsed:?}");
    lab.manifest_by(&other, "b.json", 1, "b");
    host.reload(&lab.config_trusting(
        "other.pub.pem",
        &["b.json"],
        &["p.json"],
        "[policy]\ncapabilities = [\"*\"]",
    ))
    .unwrap();
    let refused = host.dispatcher().authorize(&session, &"b".parse().unwrap(), None);
    assert_eq!(refused.unwrap_err().code, Code::SignatureInvalid);
}

#[test]
fn a_persona_that_was_replaced_elsewhere_ends_and_keeps_no_rule_from_holding() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
    lab.write("p.json", &signed(Kind::Persona, 5, &body));
    lab.persona("q.json", "q");
    let open = "[policy]\ncapabilities = [\"*\"]";
    let (manifests, personas) = (["a.json"], ["p.json", "q.json"]);
    let host = lab.host(lab.config(&manifests, &personas, open));
    let session = |id: &str| host.session_of(&id.parse().unwrap()).unwrap();
    let (replaced, other) = (session("p"), session("q"));
    let code = |session: &Session| {
        let authorized = host.dispatcher().authorize(session, &"a".parse().unwrap(), None);
        authorized.err().map(|failure| failure.code)
    };
    assert_eq!((code(&replaced), code(&other)), (None, None));
    let locked = || host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
    let mut known = locked().personas().unwrap();
    assert_eq!(known.insert("p".parse().unwrap(), 6), Some(5));
    locked().write_personas(&known).unwrap();
    let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
    let revoking = format!("{open}\n[revoked]\nkeys = [\"{bad}\"]");
    // The second time finds what the first has left.
    for _ in 0..2 {
        lab.events();
        host.reload(&lab.config(&manifests, &personas, &revoking)).unwrap();
        assert!(host.dispatcher().trust().is_revoked(bad));
        let lapsed = lab.lapsed();
        assert!(
            lapsed.len() == 1 && lapsed[0].starts_with("persona `p`: an issue of it with serial 6 "),
            "{lapsed:?}"
        );
        assert_eq!((code(&replaced), code(&other)), (Some(Code::DocumentStale), None));
        assert_eq!(locked().personas().unwrap(), known, "what is remembered is no less");
    }
    // The newer one takes its place, as always.
    lab.write("p6.json", &signed(Kind::Persona, 6, &body));
    let newer = host.session_file(&lab.folder.path().join("p6.json")).unwrap();
    assert_eq!(code(&newer), None);
}

#[test]
fn the_newer_issue_of_a_persona_takes_its_place_with_the_rest_of_its_configuration() {
    let lab = Lab::new();
    let body = |name: &str| json!({"id": "p", "name": name, "constraints": {"allowed_capabilities": ["*"]}});
    let write = |file: &str, serial, name: &str| lab.write(file, &signed(Kind::Persona, serial, &body(name)));
    write("p.json", 5, "P");
    let host = lab.host(lab.config(&[], &["p.json"], ""));
    let session = || host.session_of(&"p".parse().unwrap()).unwrap();
    let old = session();
    let remembered = || {
        let locked = host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
        locked.personas().unwrap().into_values().collect::<Vec<_>>()
    };
    let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
    let revoking = format!("[revoked]\nkeys = [\"{bad}\"]");
    let reload = || {
        let config = lab.config(&[], &["p.json", "again.json"], &revoking);
        Renewal::new(&host, &config, InForce::check_unserved)?.commit(Vec::new)
    };
    let name_of = |serial| match serial {
        5 => "P",
        _ => "Q",
    };
    let refused = |first: u64, second: u64| {
        write("p.json", first, name_of(first));
        write("again.json", second, name_of(second));
        let failure = reload().unwrap_err();
        assert_eq!(failure.code, Code::PersonaOverride, "{first} {second}");
    };
    // Beside it another issue is a second one, whichever comes first, and then nothing changes.
    for (first, second) in [(5, 6), (6, 5), (6, 7)] {
        refused(first, second);
        assert!(session().is_of(old.persona()) && !old.is_replaced());
        assert!(remembered() == [5] && !host.dispatcher().trust().is_revoked(bad));
    }
    // Several files name it. The second time finds what the first has left.
    write("p.json", 6, "Q");
    write("again.json", 6, "Q");
    for _ in 0..2 {
        lab.events();
        assert_eq!(reload().unwrap(), [""; 0]);
        assert!(host.dispatcher().trust().is_revoked(bad));
        assert_eq!((session().persona().header.serial, session().is_replaced()), (6, false));
        assert!(old.is_replaced());
        assert_eq!(remembered(), [6]);
        let events = lab.events();
        let is_taken = |event: &&EventKind| matches!(event, EventKind::Authentication { agent: Some(id), refused: None, .. } if id.to_string() == "p");
        assert_eq!(events.iter().filter(is_taken).count(), 1);
        assert!(!events.iter().any(|event| matches!(event, EventKind::Security { .. })));
    }
    for (first, second) in [(5, 6), (6, 5), (6, 7), (7, 6)] {
        refused(first, second);
    }
    // What is no newer issue is refused, as always.
    for (serial, name) in [(6, "Other"), (5, "P")] {
        write("p.json", serial, name);
        write("again.json", serial, name);
        assert_eq!(reload().unwrap_err().code, Code::PersonaOverride, "{serial} {name}");
    }
    let mut unsigned: Value = serde_json::from_slice(&signed(Kind::Persona, 7, &body("Q"))).unwrap();
    unsigned.as_object_mut().unwrap().remove("signature").unwrap();
    lab.write("p.json", unsigned.to_string().as_bytes());
    assert_eq!(reload().unwrap_err().code, Code::SignatureInvalid);
    assert_eq!((session().persona().header.serial, session().is_replaced()), (6, false));
    assert_eq!(remembered(), [6]);
}

#[test]
fn no_issue_of_a_persona_runs_under_rules_that_came_with_another_one() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.manifest("b.json", 1, "b");
    let write = |serial, allowed: &[&str]| {
        let body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": allowed}});
        lab.write("p.json", &signed(Kind::Persona, serial, &body));
    };
    let reload = |host: &Host, manifests: &[&str], allowed: &str| {
        let policy = format!("[policy]\ncapabilities = [\"{allowed}\"]");
        host.reload(&lab.config(manifests, &["p.json"], &policy)).unwrap();
    };
    write(5, &["*"]);
    let host = lab.host(lab.config(&["a.json"], &["p.json"], "[policy]\ncapabilities = [\"a\"]"));
    let session = || host.session_of(&"p".parse().unwrap()).unwrap();
    let code = |session: &Session, id: &str| {
        let authorized = host.dispatcher().authorize(session, &id.parse().unwrap(), None);
        authorized.err().map(|failure| failure.code)
    };
    let (old, before) = (session(), host.dispatcher());
    assert_eq!(code(&old, "a"), None);
    // The policy and the manifests open `b`, and the persona that comes with them leaves it out.
    write(6, &["a"]);
    reload(&host, &["a.json", "b.json"], "*");
    let stale = Some(Code::DocumentStale);
    assert_eq!((code(&old, "a"), code(&old, "b")), (stale, stale));
    assert_eq!(
        (code(&session(), "a"), code(&session(), "b")),
        (None, Some(Code::PermissionDenied))
    );
    assert!(before.authorize(&old, &"a".parse().unwrap(), None).is_err());
    // The persona opens `b` again, and the policy that comes with it closes it.
    let old = session();
    write(7, &["*"]);
    reload(&host, &["a.json", "b.json"], "a");
    assert_eq!((code(&old, "a"), code(&old, "b")), (stale, stale));
    assert_eq!(
        (code(&session(), "a"), code(&session(), "b")),
        (None, Some(Code::PermissionDenied))
    );
}

#[test]
fn a_conversation_over_standard_input_goes_on_under_the_newer_issue_of_its_persona() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let policy = "[policy]\ncapabilities = [\"*\"]";
    let write = |serial| {
        let body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
        lab.write("p.json", &signed(Kind::Persona, serial, &body));
        // As one that was made and not read, of which no event says that it is another one.
        Config {
            digest: None,
            ..lab.config(&["a.json"], &["p.json"], policy)
        }
    };
    let host = lab.host(write(5));
    let opened = host.session_of(&"p".parse().unwrap()).unwrap();
    let opened = opened.of_user("somebody".parse().unwrap()).deeper();
    let in_force = || aral_protocol::Paths::in_force(&host, &opened);
    assert_eq!(in_force().1.persona().header.serial, 5);
    let changes = host.changes();
    host.reload(&write(6)).unwrap();
    assert!(changes.has_changed().unwrap(), "clients are told to ask again");
    let (dispatcher, session) = in_force();
    assert!(Arc::ptr_eq(&dispatcher, &host.dispatcher()));
    assert!(opened.is_replaced() && !session.is_replaced());
    let of = |session: &Session| (session.user().cloned(), session.depth(), session.callers());
    assert_eq!(of(&session), of(&opened));
    assert_eq!(session.caller().unwrap().persona().header.serial, 6);
    let allowed = dispatcher.allowed(&session, &"a".parse().unwrap(), None);
    assert!(allowed.is_ok(), "{allowed:?}");
}

#[tokio::test]
async fn what_a_persona_used_up_counts_for_its_newer_issue() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
    let more = "[policy]\ncapabilities = [\"*\"]\nagent.requests_per_hour = 1";
    lab.write("p.json", &signed(Kind::Persona, 5, &body));
    let host = lab.host(lab.config(&["a.json"], &["p.json"], more));
    for (serial, refused) in [(5, None), (6, Some(Code::LimitRate))] {
        lab.write("p.json", &signed(Kind::Persona, serial, &body));
        host.reload(&lab.config(&["a.json"], &["p.json"], more)).unwrap();
        let session = host.session_of(&"p".parse().unwrap()).unwrap();
        assert_eq!(session.persona().header.serial, serial);
        let capability = "a".parse().unwrap();
        let request = Request {
            capability: &capability,
            version: None,
            input: b"1",
            trace: None,
        };
        let called = host.invoke(&session, request).await;
        assert_eq!(called.result.err().map(|failure| failure.code), refused, "{serial}");
    }
}

#[test]
fn the_newer_issue_of_a_persona_takes_its_place_also_if_that_is_not_believed_any_more() {
    let lab = Lab::new();
    let other = PrivateKey::from_seed(&Zeroizing::new([2; 32]));
    lab.write("other.pub.pem", other.public().to_pem().unwrap().as_bytes());
    lab.manifest_by(&other, "a.json", 1, "a");
    let body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
    let stolen = signed(Kind::Persona, 5, &body);
    lab.write("p.json", &stolen);
    let host = lab.host(lab.config(&[], &["p.json"], ""));
    let session = || host.session_of(&"p".parse().unwrap()).unwrap();
    let old = session();
    let revoking = format!(
        "[revoked]\nkeys = [\"{}\"]\n[policy]\ncapabilities = [\"*\"]",
        key(1).public().id()
    );
    let reload =
        |personas: &[&str]| host.reload(&lab.config_trusting("other.pub.pem", &["a.json"], personas, &revoking));
    let renewed = signed_by(&other, Kind::Persona, 6, &body);
    // Beside the one that is not believed it is a second issue, whichever comes first.
    for (first, second) in [(&stolen, &renewed), (&renewed, &stolen)] {
        lab.write("p.json", first);
        lab.write("again.json", second);
        assert_eq!(
            reload(&["p.json", "again.json"]).unwrap_err().code,
            Code::PersonaOverride
        );
        assert!(session().is_of(old.persona()) && !old.is_replaced());
    }
    lab.write("p.json", &renewed);
    lab.events();
    reload(&["p.json"]).unwrap();
    assert_eq!(lab.lapsed(), [""; 0]);
    let code = |session: &Session| {
        let authorized = host.dispatcher().authorize(session, &"a".parse().unwrap(), None);
        authorized.err().map(|failure| failure.code)
    };
    assert_eq!(session().persona().header.serial, 6);
    assert_eq!(code(&session()), None);
    assert!(code(&old).is_some() && old.is_replaced());
}

#[test]
fn the_newer_issue_of_a_persona_that_was_replaced_elsewhere_takes_its_place() {
    // The file names it at once, or after one that ended the session.
    for ends_before in [false, true] {
        let lab = Lab::new();
        lab.manifest("a.json", 1, "a");
        let body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
        lab.write("p.json", &signed(Kind::Persona, 5, &body));
        let open = "[policy]\ncapabilities = [\"*\"]";
        let host = lab.host(lab.config(&["a.json"], &["p.json"], open));
        let session = || host.session_of(&"p".parse().unwrap()).unwrap();
        let reload = || host.reload(&lab.config(&["a.json"], &["p.json"], open));
        let old = session();
        let locked = || host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
        let mut known = locked().personas().unwrap();
        assert_eq!(known.insert("p".parse().unwrap(), 6), Some(5));
        locked().write_personas(&known).unwrap();
        if ends_before {
            lab.write("p.json", &signed(Kind::Persona, 5, &body));
            reload().unwrap();
            assert!(old.is_replaced());
        }
        // Neither an older one nor what nobody signed anew does.
        let other = json!({"id": "p", "name": "Other"});
        for (serial, body, code) in [(4, &body, Code::DocumentStale), (5, &other, Code::PersonaOverride)] {
            lab.write("p.json", &signed(Kind::Persona, serial, body));
            assert_eq!(reload().unwrap_err().code, code);
        }
        lab.write("p.json", &signed(Kind::Persona, 6, &body));
        reload().unwrap();
        let new = session();
        assert_eq!((new.persona().header.serial, new.is_replaced()), (6, false));
        assert!(host.authorize(&new, &"a".parse().unwrap(), None).is_ok());
        assert!(old.is_replaced());
        assert_eq!(locked().personas().unwrap(), known);
        // It is the one that holds from now on.
        reload().unwrap();
        assert!(!session().is_replaced());
    }
}

#[test]
fn an_issue_that_was_replaced_elsewhere_as_well_keeps_no_rule_from_holding() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": ["*"]}});
    let write = |name, serial| lab.write(name, &signed(Kind::Persona, serial, &body));
    write("p.json", 5);
    let open = "[policy]\ncapabilities = [\"*\"]";
    let host = lab.host(lab.config(&["a.json"], &["p.json"], open));
    let session = || host.session_of(&"p".parse().unwrap()).unwrap();
    let old = session();
    let locked = || host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
    let mut known = locked().personas().unwrap();
    assert_eq!(known.insert("p".parse().unwrap(), 7), Some(5));
    locked().write_personas(&known).unwrap();
    let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
    let revoking = format!("{open}\n[revoked]\nkeys = [\"{bad}\"]");
    // It is named twice, and the second time finds what the first has left.
    write("p.json", 6);
    write("again.json", 6);
    let reload = || host.reload(&lab.config(&["a.json"], &["p.json", "again.json"], &revoking));
    for _ in 0..2 {
        lab.events();
        reload().unwrap();
        assert!(host.dispatcher().trust().is_revoked(bad));
        let lapsed = lab.lapsed();
        assert!(
            lapsed.len() == 1 && lapsed[0].starts_with("persona `p`: an issue of it with serial 7 "),
            "{lapsed:?}"
        );
        assert!(old.is_replaced() && session().is_replaced());
        let refused = host.authorize(&session(), &"a".parse().unwrap(), None);
        assert_eq!(refused.unwrap_err().code, Code::DocumentStale);
        assert_eq!(locked().personas().unwrap(), known);
    }
    // Beside the one that takes its place it is a second issue.
    write("again.json", 7);
    assert_eq!(reload().unwrap_err().code, Code::PersonaOverride);
    write("p.json", 7);
    write("again.json", 6);
    assert_eq!(reload().unwrap_err().code, Code::PersonaOverride);
    write("again.json", 7);
    reload().unwrap();
    let new = session();
    assert_eq!((new.persona().header.serial, new.is_replaced()), (7, false));
    assert!(old.is_replaced());
}

#[test]
fn a_manifest_that_was_replaced_elsewhere_ends_and_keeps_no_rule_from_holding() {
    // The file names the one that was taken, or a newer one that was replaced as well.
    for named in [5, 6] {
        let lab = Lab::new();
        lab.manifest("a.json", 5, "a");
        lab.manifest("b.json", 1, "b");
        lab.manifest("c.json", 1, "c");
        let host = lab.host(lab.config(&["a.json", "b.json"], &[], ""));
        host.register_manifest_file(&lab.folder.path().join("c.json")).unwrap();
        assert_eq!(ids(&host), ["a", "b", "c"]);
        let locked = || host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
        let mut known = locked().manifests().unwrap();
        let signer = Some(key(1).public().id());
        for (id, serial) in [("a", 7), ("c", 2), ("d", 2)] {
            let id: [aral_contract::CapabilityId; 1] = [id.parse().unwrap()];
            known.note(signer, &id, serial);
        }
        locked().write_manifests(&known).unwrap();
        lab.manifest("a.json", named, "a");
        let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
        let revoking = format!("[revoked]\nkeys = [\"{bad}\"]");
        // The second time finds what the first has left.
        for _ in 0..2 {
            lab.events();
            host.reload(&lab.config(&["a.json", "b.json"], &[], &revoking)).unwrap();
            assert!(host.dispatcher().trust().is_revoked(bad));
            assert_eq!(ids(&host), ["b", "c"]);
            let lapsed = lab.lapsed();
            assert!(
                lapsed.len() == 1
                    && lapsed[0].starts_with("manifest `")
                    && lapsed[0].contains("a.json`: an issue of it with serial 7 "),
                "{lapsed:?}"
            );
            assert_eq!(locked().manifests().unwrap(), known, "what is remembered is no less");
        }
        // Also one that was registered in another way, once it is named.
        host.reload(&lab.config(&["b.json", "c.json"], &[], &revoking)).unwrap();
        assert_eq!(ids(&host), ["b"]);
        // What was never taken here is not taken now, nor is what is older than what was.
        lab.manifest("d.json", 1, "d");
        lab.manifest("old.json", 4, "a");
        for file in ["d.json", "old.json"] {
            let failure = host.reload(&lab.config(&[file], &[], "")).unwrap_err();
            assert_eq!(failure.code, Code::DocumentStale, "{file}: {failure}");
            assert_eq!(ids(&host), ["b"], "{file}");
        }
        // The newer one takes its place.
        lab.manifest("a.json", 7, "a");
        lab.events();
        host.reload(&lab.config(&["a.json", "b.json"], &[], &revoking)).unwrap();
        assert_eq!(ids(&host), ["a", "b"]);
        assert_eq!(lab.lapsed(), [""; 0]);
    }
}

#[test]
fn a_manifest_that_was_replaced_by_registering_ends_and_keeps_no_rule_from_holding() {
    for forgets in [false, true] {
        let lab = Lab::new();
        let config = |manifests: &[&str], more: &str| {
            let config = lab.config(manifests, &[], more);
            if forgets {
                return Config {
                    state_dir: None,
                    audit: None,
                    ..config
                };
            }
            config
        };
        let both = json!({"capabilities": [echo_entry("a"), echo_entry("b")]});
        lab.write("both.json", &signed(Kind::Manifest, 5, &both));
        lab.manifest("c.json", 1, "c");
        let host = lab.host(config(&["both.json", "c.json"], ""));
        lab.manifest("newer.json", 6, "a");
        let newer = lab.folder.path().join("newer.json");
        host.register_manifest_file(&newer).unwrap();
        assert_eq!(ids(&host), ["a", "b", "c"]);
        let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
        let revoking = format!("[revoked]\nkeys = [\"{bad}\"]");
        // The second time finds what the first has left.
        for _ in 0..2 {
            lab.events();
            host.reload(&config(&["both.json", "c.json"], &revoking)).unwrap();
            assert!(host.dispatcher().trust().is_revoked(bad));
            assert_eq!(ids(&host), ["a", "c"], "what was registered stays");
            let lapsed = lab.lapsed();
            assert!(
                lapsed.len() == 1
                    && lapsed[0].starts_with("manifest `")
                    && lapsed[0].contains("both.json`: an issue of it with serial 6 was registered here"),
                "{lapsed:?}"
            );
        }
        // What was never taken is not taken now.
        lab.manifest("old.json", 4, "a");
        let failure = host.reload(&config(&["old.json", "c.json"], "")).unwrap_err();
        assert_eq!(failure.code, Code::DocumentStale, "{failure}");
        assert_eq!(ids(&host), ["a", "c"]);
        // The newer one is of the configuration once that names it.
        lab.events();
        host.reload(&config(&["newer.json", "c.json"], &revoking)).unwrap();
        assert_eq!(ids(&host), ["a", "c"]);
        assert_eq!(lab.lapsed(), [""; 0]);
        host.reload(&config(&["c.json"], &revoking)).unwrap();
        assert_eq!(ids(&host), ["c"]);
    }
}

#[test]
fn what_is_registered_over_a_file_of_the_configuration_is_told_of_as_that_file_is_now() {
    for forgets in [false, true] {
        let lab = Lab::new();
        lab.manifest("a.json", 5, "a");
        lab.manifest("b.json", 5, "b");
        let config = lab.config(&["a.json", "b.json"], &[], "");
        let config = Config {
            state_dir: config.state_dir.filter(|_| !forgets),
            audit: config.audit.filter(|_| !forgets),
            ..config
        };
        let host = lab.host(config);
        let ids: Vec<CapabilityId> = vec!["a".parse().unwrap()];
        let told = || host.outdated(host.named_manifests().unwrap(), &ids);
        assert_eq!(told(), [""; 0]);
        lab.manifest("newer.json", 6, "a");
        host.register_manifest_file(&lab.folder.path().join("newer.json"))
            .unwrap();
        let words = told();
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(
            words[0].contains("a.json`, which [manifests] names, has serial 5, and serial 6 was registered"),
            "{words:?}"
        );
        assert_eq!(words[0].contains("the next start fails"), !forgets, "{words:?}");
        let others: Vec<CapabilityId> = vec!["b".parse().unwrap()];
        assert_eq!(host.outdated(host.named_manifests().unwrap(), &others), [""; 0]);
        // Whoever has replaced the file already has nothing left to do.
        lab.manifest("a.json", 6, "a");
        assert_eq!(told(), [""; 0]);
    }
}

/// Otherwise one file would mean two things, depending on how often it was read.
#[test]
fn a_manifest_beside_a_newer_issue_of_it_is_refused_however_often_it_is_read() {
    let lab = Lab::new();
    let mut newer = echo_entry("a");
    newer["version"] = json!("2.0.0");
    let older = json!({"capabilities": [echo_entry("a"), echo_entry("b")]});
    let newer = json!({"capabilities": [newer]});
    lab.write("five.json", &signed(Kind::Manifest, 5, &older));
    lab.write("seven.json", &signed(Kind::Manifest, 7, &newer));
    let five = lab.folder.path().join("five.json");
    let seven = lab.folder.path().join("seven.json");
    let shown = format!(
        "[manifests] `{}`: it has serial 5, and `{}`, which has `a` as well, has serial 7 ",
        five.display(),
        seven.display()
    );
    let check = |failure: Failure| {
        assert_eq!(failure.code, Code::DocumentStale, "{failure}");
        assert!(failure.message.starts_with(&shown), "{failure}");
    };
    let host = lab.host(lab.config(&["five.json"], &[], ""));
    let serials = lab.serials();
    for files in [["five.json", "seven.json"], ["seven.json", "five.json"]] {
        let config = lab.config(&files, &[], "");
        let forgets = Config {
            state_dir: None,
            audit: None,
            ..config.clone()
        };
        check(Host::builder().config(forgets).build().unwrap_err());
        for _ in 0..2 {
            check(host.reload(&config).unwrap_err());
            assert_eq!((ids(&host).len(), lab.serials()), (2, serials.clone()));
        }
    }
    assert_eq!(lab.lapsed(), [""; 0]);
    // Those that belong together have one serial.
    lab.write("five.json", &signed(Kind::Manifest, 7, &older));
    for _ in 0..2 {
        host.reload(&lab.config(&["five.json", "seven.json"], &[], "")).unwrap();
        assert_eq!(ids(&host), ["a", "a", "b"]);
    }
    assert_eq!(lab.lapsed(), [""; 0]);
}

#[test]
fn what_cannot_be_written_down_ends_nobody() {
    let lab = Lab::new();
    let body = json!({"id": "p", "name": "P"});
    lab.write("p.json", &signed(Kind::Persona, 5, &body));
    lab.persona("q.json", "q");
    lab.manifest("a.json", 1, "a");
    let host = lab.host(lab.config(&[], &["p.json"], ""));
    let session = || host.session_of(&"p".parse().unwrap()).unwrap();
    let old = session();
    let lock = || host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
    let mut known = lock().personas().unwrap();
    known.insert("p".parse().unwrap(), 6);
    lock().write_personas(&known).unwrap();
    // The file names the newer issue, or the one that ends.
    for serial in [6, 5] {
        lab.write("p.json", &signed(Kind::Persona, serial, &body));
        let config = lab.config(&["a.json"], &["p.json", "q.json"], "");
        let renewal = Renewal::new(&host, &config, InForce::check_unserved).unwrap();
        // Once they were read they cannot be written any more.
        let personas = lab.folder.path().join("state/personas.json");
        std::fs::remove_file(&personas).unwrap();
        std::fs::create_dir(&personas).unwrap();
        lab.events();
        let failure = renewal.commit(Vec::new).unwrap_err();
        assert_eq!(failure.code, Code::Unavailable, "{failure}");
        assert!(old.is_of(session().persona()) && !old.is_replaced());
        assert!(host.session_of(&"q".parse().unwrap()).is_err() && ids(&host).is_empty());
        assert_eq!(lab.lapsed(), [""; 0]);
        std::fs::remove_dir(&personas).unwrap();
        lock().write_personas(&known).unwrap();
        let none = aral_capability::registry::Serials::default();
        assert_eq!(
            lock().manifests().unwrap(),
            none,
            "what was not taken is not remembered"
        );
    }
    let config = lab.config(&["a.json"], &["p.json", "q.json"], "");
    host.reload(&config).unwrap();
    assert!(old.is_replaced());
}

#[test]
fn what_is_read_when_the_host_has_ended_does_not_hold() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let config = lab.config(&["a.json"], &[], "");
    let host = lab.host(lab.config(&[], &[], ""));
    let before = host.configuration();
    let renewal = Renewal::new(&host, &config, InForce::check_unserved).unwrap();
    host.end();
    let serials = lab.serials();
    let failure = renewal.commit(Vec::new).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    assert_eq!(lab.serials(), serials);
    assert!(ids(&host).is_empty());
    assert_eq!(host.configuration(), before);
}

/// A clock that stands, and ends a host when somebody begins to wait.
#[derive(Debug, Default)]
struct Last(Mutex<Option<Host>>);

impl Clock for Last {
    fn now(&self) -> jiff::Timestamp {
        ManualClock::new().now()
    }

    fn elapsed(&self) -> Duration {
        let host = self.0.lock().unwrap().take();
        if let Some(host) = host {
            host.end();
        }
        Duration::ZERO
    }
}

#[test]
fn what_waits_while_the_host_ends_is_neither_taken_nor_remembered() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.persona("p.json", "p");
    let place = |name: &str| lab.folder.path().join(name);
    let named = lab.config(&["a.json"], &["p.json"], "");
    let config = Config {
        audit: None,
        ..lab.config(&[], &[], "")
    };
    let taken = |host: &Host, last: &Last| {
        let config = Config {
            audit: None,
            ..named.clone()
        };
        let renewal = Renewal::new(host, &config, InForce::check_unserved).unwrap();
        // It waits for what agents have used up.
        *last.0.lock().unwrap() = Some(host.clone());
        renewal.commit(Vec::new).map(drop)
    };
    let registered = |host: &Host, _: &Last| {
        let manifest = std::fs::read(place("a.json")).unwrap();
        let registered = host.register_manifest(&manifest, &|_| {
            host.end();
            Ok(echo())
        });
        registered.map(drop)
    };
    let opened = |host: &Host, last: &Last| {
        *last.0.lock().unwrap() = Some(host.clone());
        host.session_file(&place("p.json")).map(drop)
    };
    type Act<'a> = &'a dyn Fn(&Host, &Last) -> Result<(), Failure>;
    for act in [&taken as Act<'_>, &registered, &opened] {
        let last = Arc::new(Last::default());
        let builder = Host::builder().config(config.clone());
        let host = builder.clock(Arc::clone(&last) as _).build().unwrap();
        let failure = act(&host, &last).unwrap_err();
        assert!(failure.message.ends_with("the host has ended"), "{failure}");
        assert_eq!(failure.code, Code::Unavailable);
        assert!(ids(&host).is_empty() && host.sessions().is_empty());
        let locked = host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap();
        assert!(locked.personas().unwrap().is_empty());
        let none = aral_capability::registry::Serials::default();
        assert_eq!(locked.manifests().unwrap(), none);
    }
}

#[test]
fn grants_of_the_policy_before_are_let_go_when_another_one_holds_and_not_before() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    lab.persona("p.json", "p");
    let config = |more: &str| lab.config(&["a.json"], &["p.json"], more);
    let policy = "[policy]\ncapabilities = [\"*\"]\n";
    let host = lab.host(config(policy));
    let session = host.session_of(&"p".parse().unwrap()).unwrap();
    let old = host.dispatcher();
    let granted = || old.authorize(&session, &"a".parse().unwrap(), None).unwrap();
    let first = granted();
    let another = config(&format!("{policy}breaker.failures = 3\n"));
    for (config, holds, is_kept) in [
        (&another, false, true),
        (&config(policy), true, true),
        (&another, true, false),
    ] {
        let renewal = Renewal::new(&host, config, InForce::check_unserved).unwrap();
        assert!(Arc::ptr_eq(&granted(), &first));
        let mut last = granted();
        if holds {
            // Until a server goes over to the new rules it grants under the old ones.
            let then = || {
                last = granted();
                Vec::new()
            };
            renewal.commit(then).unwrap();
        } else {
            drop(renewal);
        }
        assert_eq!(Arc::ptr_eq(&granted(), &last), is_kept);
    }
}

#[test]
fn while_a_configuration_is_taken_no_other_process_admits_anything() {
    let lab = Lab::new();
    let config = lab.config(&[], &[], "");
    let host = lab.host(config.clone());
    // As another process has it.
    let lock = || std::fs::File::open(lab.folder.path().join("state/serials.lock")).unwrap();
    drop(host.0.serials.as_ref().unwrap().lock(&*host.0.clock).unwrap());
    for holds in [false, true] {
        let renewal = Renewal::new(&host, &config, InForce::check_unserved).unwrap();
        let waits = lock().try_lock().unwrap_err();
        assert!(matches!(waits, std::fs::TryLockError::WouldBlock), "{waits:?}");
        if holds {
            renewal.commit(Vec::new).unwrap();
        } else {
            drop(renewal);
        }
        lock().try_lock().unwrap();
    }
}

#[test]
fn what_the_builder_was_given_goes_on_to_hold() {
    let lab = Lab::new();
    let own = PrivateKey::from_seed(&Zeroizing::new([2; 32]));
    lab.manifest_by(&own, "a.json", 1, "a");
    lab.persona("p.json", "p");
    let raw = toml::from_str("capabilities = [\"*\"]").unwrap();
    let policy = Policy::resolve(raw, &"/".parse().unwrap()).unwrap();
    let builder = Host::builder().config(lab.config(&["a.json"], &["p.json"], ""));
    let builder = builder.policy(policy.clone()).trust(own.public(), &[Kind::Manifest]);
    let host = builder.build().unwrap();
    let trust = host.dispatcher().trust().digest();
    let other = "[policy]\nagent.requests_per_minute = 1";
    host.reload(&lab.config(&["a.json"], &["p.json"], other)).unwrap();
    assert_eq!(host.policy(), policy);
    assert_eq!(host.dispatcher().trust().digest(), trust);
    assert_eq!(ids(&host), ["a"]);
    let session = host.session_of(&"p".parse().unwrap()).unwrap();
    assert!(host.authorize(&session, &"a".parse().unwrap(), None).is_ok());
    // What took its place since is not undone either.
    let raw = toml::from_str("capabilities = []").unwrap();
    let tighter = Policy::resolve(raw, &"/".parse().unwrap()).unwrap();
    host.set_policy(tighter.clone());
    host.reload(&lab.config(&["a.json"], &["p.json"], "")).unwrap();
    assert_eq!(host.policy(), tighter);
}

#[test]
fn a_key_that_was_revoked_or_dropped_since_is_not_trusted_again() {
    let lab = Lab::new();
    let seeds = [2, 3, 4].map(|seed| PrivateKey::from_seed(&Zeroizing::new([seed; 32])).public());
    let [revoked, dropped, kept] = &seeds;
    let config = lab.config(&[], &[], "");
    let builder = seeds
        .iter()
        .fold(Host::builder().config(config.clone()), |builder, key| {
            builder.trust(key.clone(), &[Kind::Manifest, Kind::Persona])
        });
    let host = builder.build().unwrap();
    let check = |key: &PublicKey| {
        let now = host.0.clock.now();
        host.dispatcher().trust().check(key.id(), Kind::Manifest, now).is_ok()
    };
    let of_the_file = key(1).public();
    host.revoke(revoked.id());
    host.reload(&config).unwrap();
    assert_eq!(
        [revoked, dropped, kept, &of_the_file].map(check),
        [false, true, true, true]
    );
    let mut trust = TrustStore::default();
    trust.add(kept.clone(), &[Kind::Manifest]);
    host.set_trust(trust.clone());
    host.reload(&config).unwrap();
    assert_eq!(
        [revoked, dropped, kept, &of_the_file].map(check),
        [false, false, true, true]
    );
    let now = host.0.clock.now();
    let persona = host.dispatcher().trust().check(kept.id(), Kind::Persona, now);
    assert!(persona.is_err(), "nor for more than it is trusted for since");
    trust.revoke(of_the_file.id());
    host.set_trust(trust);
    host.reload(&config).unwrap();
    assert_eq!(
        [revoked, dropped, kept, &of_the_file].map(check),
        [false, false, true, false]
    );
}

#[test]
fn a_key_that_is_revoked_while_a_configuration_is_taken_stays_revoked_and_nobody_waits() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let config = lab.config(&["a.json"], &[], "");
    let host = lab.host(config.clone());
    let signer = key(1).public().id();
    let is_trusted = || {
        let now = host.0.clock.now();
        host.dispatcher().trust().check(signer, Kind::Manifest, now).is_ok()
    };
    let renewal = Renewal::new(&host, &config, InForce::check_unserved).unwrap();
    assert!(is_trusted());
    host.revoke(signer);
    assert!(!is_trusted());
    renewal.commit(Vec::new).unwrap();
    assert!(!is_trusted());
}

#[tokio::test]
async fn a_server_that_is_there_takes_the_configuration_too_or_the_host_does_not() {
    let lab = Lab::new();
    lab.persona("p.json", "p");
    let listener = "[[serve.listener]]\naddress = \"127.0.0.1:0\"";
    let closed = lab.config(&[], &["p.json"], listener);
    let host = lab.host(closed.clone());
    host.reload(&closed).unwrap();
    let serve = closed.serve.as_ref().unwrap();
    let server = host.server(serve, Personas::Signed).await.unwrap();
    let open = format!("{listener}\n[policy]\ncapabilities = [\"*\"]");
    let open = lab.config(&[], &["p.json"], &open);
    let before = host.policy();
    let failure = host.reload(&open).unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    assert!(failure.hint.unwrap().contains("`Reloader`"));
    assert_eq!(host.policy(), before);
    let reloader = crate::Reloader::new(host.clone(), server.handle(), Personas::Signed);
    reloader.reload(&open).unwrap();
    assert_ne!(host.policy(), before);
    // While one is being taken no server comes between.
    let renewal = Renewal::new(&host, &open, InForce::check_alone).unwrap();
    assert!(host.0.in_force.try_lock().is_err());
    drop(renewal);
    let second = host.server(serve, Personas::Signed).await.unwrap();
    assert!(Renewal::new(&host, &open, InForce::check_alone).is_err());
    let failure = reloader.reload(&closed).unwrap_err();
    assert!(failure.message.contains("another server of this host"), "{failure}");
    drop(second);
    reloader.reload(&open).unwrap();
    drop((server, reloader));
    host.reload(&closed).unwrap();
    assert_eq!(host.policy(), before, "there is none any more");
}

#[tokio::test]
async fn a_file_that_is_changed_while_its_reading_waits_is_read_as_it_is_then() {
    let lab = Lab::new();
    lab.persona("p.json", "p");
    let listener = "[[serve.listener]]\naddress = \"127.0.0.1:0\"";
    let config = |more: &str| lab.config(&[], &["p.json"], &format!("{listener}\n{more}"));
    let old = config("");
    let host = lab.host(old.clone());
    let server = host.server(old.serve.as_ref().unwrap(), Personas::Signed);
    let server = server.await.unwrap();
    let reloader = crate::Reloader::new(host.clone(), server.handle(), Personas::Signed);
    let file = lab.folder.path().join("aral.toml");
    let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
    let (asked, new) = {
        let _another = host.changing();
        let asked = tokio::task::spawn_blocking(move || reloader.reload_file(&file));
        // Time to read it too early.
        std::thread::sleep(Duration::from_millis(200));
        (asked, config(&format!("[revoked]\nkeys = [\"{bad}\"]")))
    };
    asked.await.unwrap().unwrap();
    assert_ne!(old.digest, new.digest);
    assert_eq!(host.configuration(), new.digest);
    assert!(host.dispatcher().trust().is_revoked(bad));
}

#[tokio::test]
async fn what_a_signal_asks_for_has_its_turn_however_long_others_take() {
    let lab = Lab::new();
    lab.persona("p.json", "p");
    let config = lab.config(&[], &["p.json"], "[[serve.listener]]\naddress = \"127.0.0.1:0\"");
    let clock = Arc::new(ManualClock::new());
    let builder = Host::builder().config(config.clone());
    let host = builder.clock(Arc::clone(&clock) as _).build().unwrap();
    let server = host.server(config.serve.as_ref().unwrap(), Personas::Signed);
    let server = server.await.unwrap();
    let reloader = crate::Reloader::new(host.clone(), server.handle(), Personas::Signed);
    let file = lab.folder.path().join("aral.toml");
    let (asked, refused) = {
        let _others = host.changing();
        let (signal, operator, path) = (reloader.clone(), reloader, file.clone());
        let asked = tokio::task::spawn_blocking(move || signal.reload_file_at_last(&file));
        let refused = tokio::task::spawn_blocking(move || operator.reload_file(&path));
        // The time of day does not go on: it says nothing of how long somebody waits.
        let pass = || {
            clock.leap(-SignedDuration::try_from(CHANGE_WAIT).unwrap());
            clock.advance(CHANGE_WAIT);
        };
        // Time to begin to wait, and to have waited too long.
        std::thread::sleep(Duration::from_millis(200));
        pass();
        while !refused.is_finished() {
            pass();
            std::thread::sleep(Duration::from_millis(20));
        }
        (asked, refused)
    };
    assert_eq!(refused.await.unwrap().unwrap_err().code, Code::Unavailable);
    asked.await.unwrap().unwrap();
}

/// An operator of this server.
async fn operator(lab: &Lab, host: &Host, server: &aral_protocol::Server) -> AdminClient {
    let socket = lab.folder.path().join("operator.sock");
    let options = AdminOptions {
        socket: Some(socket.clone()),
        ..AdminOptions::default()
    };
    let admin = host.admin(options).await.unwrap();
    let management = crate::Management {
        host: host.clone(),
        reloader: crate::Reloader::new(host.clone(), server.handle(), Personas::Signed),
        file: None,
        listening: server.addresses(),
        metrics: crate::telemetry::MetricsText::of_nobody(),
        ending: tokio::sync::watch::channel(false).1,
    };
    tokio::spawn(admin.run(management.router(), std::future::pending()));
    AdminClient::connect(&socket).await.unwrap().unwrap()
}

#[test]
fn who_would_change_the_rules_is_refused_once_others_have_taken_long() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let config = Config {
        audit: None,
        ..lab.config(&["a.json"], &[], "")
    };
    let builder = Host::builder().config(config.clone());
    let host = builder.clock(Arc::new(Fast::default())).build().unwrap();
    let others = host.changing();
    let (id, version) = ("a".parse().unwrap(), "1.0.0".parse().unwrap());
    for outcome in [
        host.reload(&config),
        host.register_manifest_file(&lab.folder.path().join("a.json")).map(drop),
        host.remove_soon(&id, &version).map(drop),
    ] {
        let failure = outcome.unwrap_err();
        assert_eq!(failure.code, Code::Unavailable, "{failure}");
        assert!(failure.message.contains("is being read"), "{failure}");
    }
    drop(others);
    assert!(host.remove_soon(&id, &version).unwrap());
}

#[tokio::test]
async fn who_only_looks_does_not_wait_for_a_configuration_that_is_being_read() {
    let lab = Lab::new();
    lab.persona("p.json", "p");
    let config = lab.config(&[], &["p.json"], "[[serve.listener]]\naddress = \"127.0.0.1:0\"");
    let host = lab.host(config.clone());
    let server = host.server(config.serve.as_ref().unwrap(), Personas::Signed);
    let server = server.await.unwrap();
    let mut operator = operator(&lab, &host, &server).await;
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let held = host.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let _changing = held.changing();
        begun.send(()).unwrap();
        let _at_the_latest = is_over.recv_timeout(Duration::from_secs(60));
    });
    has_begun.await.unwrap();
    let status: Result<Value, _> = operator.ask(Method::GET, "/v1/status", client::whole("")).await;
    assert_eq!(status.unwrap()["configuration"], json!(config.digest));
    assert!(over.send(()).is_ok(), "it waited");
    reading.await.unwrap();
}

#[tokio::test]
async fn an_operator_looks_at_the_disk_together_with_everybody() {
    let lab = Lab::new();
    lab.persona("p.json", "p");
    let config = lab.config(&[], &["p.json"], "[[serve.listener]]\naddress = \"127.0.0.1:0\"");
    let builder = Host::builder()
        .config(config.clone())
        .clock(Arc::new(ManualClock::new()));
    let host = builder.sink(Arc::clone(&lab.kept) as _).build().unwrap();
    let server = host
        .server(config.serve.as_ref().unwrap(), Personas::Signed)
        .await
        .unwrap();
    let folder = lab.folder.path();
    let mut operator = operator(&lab, &host, &server).await;
    let mut fault = async || {
        let status: Value = operator
            .ask(Method::GET, "/v1/status", client::whole(""))
            .await
            .unwrap();
        let checks = status["checks"].as_array().unwrap();
        let disk = checks.iter().find(|check| check["name"] == "disk");
        disk.unwrap()["fault"].clone()
    };
    assert_eq!(fault().await, Value::Null);
    std::fs::rename(folder.join("state"), folder.join("gone")).unwrap();
    let looked = aral_protocol::Health::checks(&host);
    let disk = looked.iter().find(|check| check.name == "disk");
    assert!(disk.unwrap().fault.is_some());
    assert_eq!(fault().await, Value::Null, "that was looked at a moment ago");
}

#[test]
fn what_cannot_change_is_named() {
    let lab = Lab::new();
    let host = lab.host(lab.config(&[], &[], ""));
    for (more, section) in [
        ("[egress]\nconnections_max = 7", "[egress]"),
        ("[runtime]\nconcurrent_calls_max = 7", "[runtime]"),
        ("[runtime]\nwaiting_calls_max = 7", "[runtime]"),
        ("[runtime]\nallocation = \"on-demand\"", "[runtime]"),
        ("[runtime]\ncache_dir = \"elsewhere\"", "[runtime]"),
        ("[runtime]\ncache_bytes_max = 7", "[runtime]"),
        ("[memory]\nmaster_key = { file = \"k\" }", "[memory]"),
        ("[secrets]\ncache_ttl_ms = 7", "[secrets]"),
        (
            "[audit.elasticsearch]\naddress = \"http://127.0.0.1:1\"\nindex = \"i\"",
            "[audit]",
        ),
        ("[telemetry.otlp]\naddress = \"http://127.0.0.1:1\"", "[telemetry]"),
        ("[process]\nopen_files_max = 70", "[process]"),
    ] {
        let failure = host.reload(&lab.config(&[], &[], more)).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid, "{more}");
        assert_eq!(failure.message, format!("{section} cannot change while the host runs"));
        assert!(failure.hint.unwrap().contains("restart it"), "{more}");
    }
    let text = std::fs::read_to_string(lab.folder.path().join("aral.toml")).unwrap();
    let moved = text
        .replace("\"state\"", "\"elsewhere\"")
        .replace("[process]\nopen_files_max = 70", "");
    let moved = Config::load(&lab.write("aral.toml", moved.as_bytes())).unwrap();
    let failure = host.reload(&moved).unwrap_err();
    assert!(failure.message.starts_with("state_dir"), "{failure}");
    host.reload(&lab.config(&[], &[], "[serve.limits]\nrequests_max = 7"))
        .unwrap();
}

#[test]
fn the_key_that_the_store_was_rotated_to_may_be_named_and_no_other() {
    let lab = Lab::new();
    for name in ["old.key", "new.key", "third.key"] {
        lab.write(name, MasterKey::generate_text().unwrap().as_bytes());
    }
    let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
    let config = |key: &str, more: &str| {
        let more = format!("[memory]\n{more}\nmaster_key = {{ file = \"{key}\" }}\n[revoked]\nkeys = [\"{bad}\"]");
        lab.config(&[], &[], &more)
    };
    let host = lab.host(lab.config(&[], &[], "[memory.master_key]\nfile = \"old.key\""));
    let refused = |key: &str, more: &str, words: &str| {
        let failure = host.reload(&config(key, more)).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
        assert!(!host.dispatcher().trust().is_revoked(bad));
    };
    let fixed = "[memory] cannot change while the host runs";
    // It would be opened with the old one.
    refused("new.key", "", "the store is not open");
    let store = host.0.store.as_ref().unwrap().sealed().unwrap();
    refused("new.key", "", "the store wants the master key");
    let new = lab.folder.path().join("new.key");
    let new = crate::storage::read_master_key(&new).unwrap();
    store.rotate_key(&new, &mut |_| ()).unwrap();
    refused("third.key", "", "the store wants the master key");
    refused("none.key", "", "none.key");
    refused("new.key", "sweep_ms = 7", fixed);
    let variable = lab.config(&[], &[], "[memory.master_key]\nenvironment = \"NEW\"");
    let failure = host.reload(&variable).unwrap_err();
    assert!(failure.message.contains("`NEW` was not taken"), "{failure}");
    assert!(
        failure
            .hint
            .unwrap()
            .contains("restart the host with it, or name a file")
    );
    // Nobody has changed the line: it holds, and whoever asked is told.
    let taken = |config: &Config| {
        let renewal = Renewal::new(&host, config, InForce::check_unserved).unwrap();
        renewal.commit(Vec::new).unwrap()
    };
    let told = taken(&lab.config(&[], &[], "[memory.master_key]\nfile = \"old.key\""));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("the next start fails") && told[0].contains(&new.id()),
        "{told:?}"
    );
    std::fs::remove_file(lab.folder.path().join("old.key")).unwrap();
    let told = taken(&lab.config(&[], &[], "[memory.master_key]\nfile = \"old.key\""));
    assert!(told[0].contains(&new.id()), "{told:?}");
    assert_eq!(taken(&config("new.key", "")), Vec::<String>::new());
    assert!(host.dispatcher().trust().is_revoked(bad));
}

#[test]
fn a_master_key_whose_file_does_not_answer_holds_up_no_configuration() {
    let lab = Lab::new();
    lab.write("master.key", MasterKey::generate_text().unwrap().as_bytes());
    let config = |more: &str| lab.config(&[], &[], &format!("[memory.master_key]\nfile = \"master.key\"\n{more}"));
    let host = lab.host(config(""));
    host.0.store.as_ref().unwrap().open_now().unwrap();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let hanging = host.0.advice.ask(Duration::ZERO, move || ended.recv().is_ok());
    assert_eq!(hanging, Err(advice::Unheard::Late));
    let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
    let revoking = config(&format!("[revoked]\nkeys = [\"{bad}\"]"));
    let taken = |config: &Config| {
        let renewal = Renewal::new(&host, config, InForce::check_unserved).unwrap();
        renewal.commit(Vec::new).unwrap()
    };
    let told = taken(&revoking);
    assert!(
        matches!(&*told, [one] if one.starts_with("[memory.master_key]: whether the key opens the store")),
        "{told:?}"
    );
    assert!(host.dispatcher().trust().is_revoked(bad));
    drop(end);
    while !taken(&revoking).is_empty() {
        std::thread::yield_now();
    }
}

/// One configuration of a caller and an issuer, whose keys stand in files of their own.
fn keyed(lab: &Lab, kid: &str, signer: u8) -> Config {
    const JWKS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    lab.write("jwks.json", JWKS.replace("one", kid).as_bytes());
    lab.write("caller.pub.pem", key(signer).public().to_pem().unwrap().as_bytes());
    let serve = "[serve]\nresource = \"https://aral.example\"\n[[serve.listener]]\naddress = \"127.0.0.1:0\"\n\
                     [[serve.caller]]\nname = \"me\"\npersona = \"p.json\"\nsignature = \"required\"\n\
                     signature_keys = [\"caller.pub.pem\"]\n[[serve.issuer]]\nissuer = \"i\"\naudiences = [\"https://aral.example\"]\n\
                     algorithms = [\"EdDSA\"]\njwks_file = \"jwks.json\"\n[[serve.issuer.scope]]\nscope = \"s\"\npersona = \"p.json\"\n";
    lab.config(&[], &[], serve)
}

#[tokio::test]
async fn a_server_that_starts_leaves_a_digest_of_those_who_may_call() {
    let started = async |kid: &str, signer: u8| -> Vec<(&'static str, Digest)> {
        let lab = Lab::new();
        lab.persona("p.json", "p");
        let config = keyed(&lab, kid, signer);
        let host = lab.host(config.clone());
        lab.events();
        let _server = host
            .server(config.serve.as_ref().unwrap(), Personas::Signed)
            .await
            .unwrap();
        let events = lab.events().into_iter();
        events
            .filter_map(|event| match event {
                EventKind::ConfigurationChanged { subject, after, .. } => Some((subject, after)),
                _ => None,
            })
            .collect()
    };
    let one = started("one", 2).await;
    assert!(
        one.iter()
            .map(|(subject, _)| *subject)
            .eq(["trust", "callers", "issuers"])
    );
    assert_eq!(started("one", 2).await, one);
    let (issuer, caller) = (started("two", 2).await, started("one", 3).await);
    assert!(issuer[..2] == one[..2] && issuer[2] != one[2], "{issuer:?}");
    assert!(caller[1] != one[1] && caller[2] == one[2], "{caller:?}");
}

#[test]
fn keys_of_callers_and_issuers_that_are_others_in_their_files_are_on_record() {
    let lab = Lab::new();
    let host = lab.host(keyed(&lab, "one", 2));
    let changed = || -> Vec<(&'static str, bool)> {
        let events = lab.events().into_iter();
        events
            .filter_map(|event| match event {
                EventKind::ConfigurationChanged { subject, before, after } => Some((subject, before != Some(after))),
                _ => None,
            })
            .collect()
    };
    changed();
    let file = ("configuration", false);
    for (kid, signer, expected) in [
        ("one", 2, vec![file]),
        ("two", 2, vec![("issuers", true), file]),
        ("two", 2, vec![file]),
        ("two", 3, vec![("callers", true), file]),
        ("one", 2, vec![("callers", true), ("issuers", true), file]),
    ] {
        host.reload(&keyed(&lab, kid, signer)).unwrap();
        assert_eq!(changed(), expected, "{kid} {signer}");
    }
}

#[test]
fn where_and_by_whom_a_server_is_managed_cannot_change() {
    let lab = Lab::new();
    let config = |admin: &str| {
        let serve = format!("[[serve.listener]]\naddress = \"127.0.0.1:0\"\n[serve.admin]\n{admin}");
        lab.config(&[], &[], &serve)
    };
    let keys = |keys: &[&str]| {
        let digests: Vec<String> = keys.iter().map(|key| Digest::of(key.as_bytes()).to_string()).collect();
        format!("keys = {digests:?}")
    };
    let address = "address = \"127.0.0.1:0\"";
    let of = |known: &[&str]| config(&format!("{address}\n{}", keys(known)));
    let host = lab.host(of(&["aral_one", "aral_two"]));
    host.reload(&of(&["aral_one", "aral_two"])).unwrap();
    for (case, changed) in [
        ("a key less", of(&["aral_one"])),
        ("a key more", of(&["aral_one", "aral_two", "aral_three"])),
        ("no port", config(&keys(&["aral_one", "aral_two"]))),
        (
            "another port",
            config(&format!(
                "address = \"127.0.0.1:1\"\n{}",
                keys(&["aral_one", "aral_two"])
            )),
        ),
        (
            "another socket",
            config(&format!(
                "{address}\nsocket = \"other\"\n{}",
                keys(&["aral_one", "aral_two"])
            )),
        ),
        ("none of it", config("")),
    ] {
        let failure = host.reload(&changed).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid, "{case}");
        assert_eq!(
            failure.message, "[serve.admin] cannot change while the host runs",
            "{case}"
        );
    }
}

#[test]
fn who_reaches_a_server_goes_on_to_reach_it_in_the_same_way() {
    let outbound = |name: &str| format!("[outbound]\nno_proxy = [\"{name}\"]\n");
    for (keeps, more) in [
        (true, "[telemetry.otlp]\naddress = \"http://127.0.0.1:1\""),
        (true, "[audit.otlp]\naddress = \"http://127.0.0.1:1\""),
        (
            true,
            "[audit.elasticsearch]\naddress = \"http://127.0.0.1:1\"\nindex = \"i\"",
        ),
        (
            true,
            "[secrets.vault]\naddress = \"http://127.0.0.1:1\"\ntoken_file = \"token\"",
        ),
        (false, ""),
    ] {
        let lab = Lab::new();
        let config = |name: &str| lab.config(&[], &[], &format!("{more}\n{}", outbound(name)));
        check_fixed(&config("one.example"), &config("one.example")).unwrap();
        let moved = check_fixed(&config("one.example"), &config("two.example"));
        if keeps {
            let failure = moved.unwrap_err();
            assert_eq!(
                failure.message, "[outbound] cannot change while the host runs",
                "{more}"
            );
        } else {
            moved.unwrap();
        }
    }
}

#[test]
fn authorities_that_are_renewed_keep_no_rule_from_holding() {
    let collector = "[telemetry.otlp]\naddress = \"http://127.0.0.1:1\"";
    for (keeps, more) in [(true, collector), (false, "")] {
        let lab = Lab::new();
        let config = |ca: &str, rules: &str| {
            lab.write("ca.pem", certificates(ca).as_bytes());
            lab.config(&[], &[], &format!("{more}\n[outbound]\nca_file = \"ca.pem\"\n{rules}"))
        };
        let host = lab.host(config("AAAA", ""));
        let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
        let revoking = format!("[revoked]\nkeys = [\"{bad}\"]");
        lab.events();
        let told = || lab.recorded(rule::OUTBOUND_CA_FILE).len();
        host.reload(&config("AAAA", "")).unwrap();
        assert_eq!(told(), 0, "it is the same");
        host.reload(&config("BBBB", &revoking)).unwrap();
        assert!(host.dispatcher().trust().is_revoked(bad));
        assert_eq!(told(), usize::from(keeps), "{more}");
        host.reload(&config("BBBB", &revoking)).unwrap();
        assert_eq!(told(), 0, "once");
        host.reload(&config("AAAA", &revoking)).unwrap();
        assert_eq!(told(), 0, "that is the one which all trust");
        host.reload(&config("CCCC", &revoking)).unwrap();
        assert_eq!(told(), usize::from(keeps), "{more}");
    }
}

/// A file of certificates, as far as the configuration looks at it.
fn certificates(text: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn authorities_of_a_section_that_cannot_change_are_renewed_and_told_of() {
    let address = "address = \"https://127.0.0.1:1\"";
    for (rule, section, more) in [
        ("egress.ca_file", "[egress]", String::new()),
        (
            "secrets.vault.ca_file",
            "[secrets.vault]",
            format!("{address}\ntoken_file = \"token\""),
        ),
        (
            "audit.elasticsearch.ca_file",
            "[audit.elasticsearch]",
            format!("{address}\nindex = \"i\""),
        ),
        ("audit.otlp.ca_file", "[audit.otlp]", address.to_owned()),
        ("telemetry.otlp.ca_file", "[telemetry.otlp]", address.to_owned()),
    ] {
        let lab = Lab::new();
        let config = |text: &str| {
            lab.write("ca.pem", certificates(text).as_bytes());
            lab.config(&[], &[], &format!("{section}\nca_file = \"ca.pem\"\n{more}"))
        };
        let old = config("AAAA");
        let in_force = InForce::new(&old, Given::default());
        let renewed = config("BBBB");
        check_fixed(&old, &renewed).unwrap();
        assert_eq!(in_force.other_authorities(&renewed), [rule]);
        assert!(in_force.other_authorities(&config("AAAA")).is_empty(), "{rule}");
        // Whether there are any is a line of the section.
        let none = lab.config(&[], &[], &format!("{section}\n{more}"));
        for (before, after) in [(&old, &none), (&none, &old)] {
            let failure = check_fixed(before, after).unwrap_err();
            assert!(failure.message.ends_with("cannot change while the host runs"), "{rule}");
        }
    }
}

#[test]
fn a_bundle_of_authorities_that_was_renewed_keeps_no_key_from_being_revoked() {
    let lab = Lab::new();
    let config = |text: &str, rules: &str| {
        lab.write("ca.pem", certificates(text).as_bytes());
        lab.config(&[], &[], &format!("[egress]\nca_file = \"ca.pem\"\n{rules}"))
    };
    let host = lab.host(config("AAAA", ""));
    let bad = PrivateKey::from_seed(&Zeroizing::new([9; 32])).public().id();
    let revoking = format!("[revoked]\nkeys = [\"{bad}\"]");
    let told = || lab.recorded("egress.ca_file");
    lab.events();
    host.reload(&config("BBBB", &revoking)).unwrap();
    assert!(host.dispatcher().trust().is_revoked(bad));
    assert_eq!(told(), ["[egress] ca_file: until a restart the one of the start holds"]);
    host.reload(&config("BBBB", &revoking)).unwrap();
    host.reload(&config("AAAA", &revoking)).unwrap();
    assert!(told().is_empty(), "once, and not of the one of the start");
    // Whoever had it read is told, too, with what a server says.
    let renewed = config("CCCC", &revoking);
    let renewal = Renewal::new(&host, &renewed, InForce::check_unserved).unwrap();
    let left_out = renewal.commit(|| vec!["of a server".to_owned()]).unwrap();
    assert_eq!(
        left_out,
        [
            "of a server",
            "[egress] ca_file: until a restart the one of the start holds"
        ]
    );
}

#[test]
fn rules_that_others_change_meanwhile_are_not_lost() {
    let lab = Lab::new();
    lab.manifest("a.json", 1, "a");
    let config = lab.config(&[], &[], "");
    let host = lab.host(config.clone());
    let path: &Path = &lab.folder.path().join("a.json");
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| (0..50).try_for_each(|_| host.reload(&config)));
        for _ in 0..50 {
            host.register_manifest_file(path).unwrap();
            assert_eq!(ids(&host), ["a"]);
            host.remove(&"a".parse().unwrap(), &"1.0.0".parse().unwrap());
            assert!(ids(&host).is_empty());
        }
        reloading.join().unwrap().unwrap();
    });
}
