//! The secret functions on secrets in memory: what is let through, what is refused and why, and what is recorded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_contract::{Classification, Cut, EventKind, Grant, GrantParts, Limits, SecretReference};
use aral_memory::Secrets;
use aral_memory::secret::LOCAL_OPERATIONS_MAX;
use serde_json::json;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types as http_types;

use super::*;
use crate::bound::stdio::StandardStreams;
use crate::bound::{Services, Ungranted};
use crate::call::HOST_CALL_EVENTS_MAX;
use crate::manifest::check::check_scopes;
use crate::testing::secrets::{TestSource, local_secrets, secrets};
use crate::testing::store::TestStore;
use crate::testing::{self, Kept, Trial, Warnings, told};

struct Fixture {
    state: State,
    kept: Arc<Kept>,
    source: Arc<TestSource>,
}

fn fixture(limits: Limits, source: TestSource) -> Fixture {
    fixture_for(limits, source, Classification::Secret)
}

fn fixture_for(limits: Limits, source: TestSource, clearance: Classification) -> Fixture {
    let source = Arc::new(source);
    let names = ["token", "other", "bare", "open", "missing", "mine"];
    let (state, kept) = state(limits, secrets(&names, &source), clearance);
    Fixture { state, kept, source }
}

/// Over secrets that are kept in a store of records.
fn local_fixture(limits: Limits, secrets: &Secrets) -> Fixture {
    let (state, kept) = state(limits, secrets.clone(), Classification::Secret);
    Fixture {
        state,
        kept,
        source: Arc::default(),
    }
}

fn state(limits: Limits, secrets: Secrets, clearance: Classification) -> (State, Arc<Kept>) {
    let permissions = json!({
        "secret:read": { "secrets": [
            { "name": "token", "hosts": ["https://a.example"], "header": "authorization", "prefix": "Bearer " },
            { "name": "other", "hosts": ["https://a.example"], "header": "authorization" },
            { "name": "dashed", "hosts": ["https://a.example"], "header": "x-api-key" },
            { "name": "lined", "hosts": ["https://a.example"], "header": "x_api_key" },
            { "name": "bare" },
            { "name": "open", "use": "reveal" },
            { "name": "missing", "use": "reveal" },
        ]},
        "secret:write": { "names": ["mine"] },
    });
    let grant = Arc::new(Grant::new(GrantParts {
        clearance,
        ..testing::grant_parts(permissions, limits, &[])
    }));
    let Trial { call, kept } = Trial::lending(grant, Ungranted::Refuse, |least| Services {
        secrets: Some(secrets),
        ..least
    });
    (State::new(call, StandardStreams::Log), kept)
}

fn open_fixture() -> Fixture {
    fixture(
        Limits::default(),
        TestSource::of(&[("OPEN", "shown to all"), ("TOKEN", "hidden from all")]),
    )
}

impl Fixture {
    async fn open(&mut self, name: &str) -> Result<Resource<Secret>, Error> {
        ReadHost::open(&mut self.state, name.to_owned()).await.unwrap()
    }

    fn request(&mut self) -> Resource<HostOutgoingRequest> {
        let mut http = self.state.http();
        let fields = http_types::HostFields::new(&mut http).unwrap();
        http_types::HostOutgoingRequest::new(&mut http, fields).unwrap()
    }

    async fn attach(&mut self, name: &str, request: &Resource<HostOutgoingRequest>) -> Result<(), Error> {
        let secret = self.open(name).await.unwrap();
        let request = Resource::new_borrow(request.rep());
        HostSecret::attach(&mut self.state, secret, request).await.unwrap()
    }

    async fn reveal(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        let secret = self.open(name).await.unwrap();
        HostSecret::reveal(&mut self.state, secret).await.unwrap()
    }

    async fn put(&mut self, name: &str, value: Vec<u8>) -> Result<(), Error> {
        WriteHost::put(&mut self.state, name.to_owned(), value).await.unwrap()
    }

    /// Accesses as (secret, operation, refused).
    fn accesses(&self) -> Vec<(String, SecretOperation, Option<String>)> {
        let accesses = self.kept.accesses().into_iter();
        accesses
            .map(|kind| match kind {
                EventKind::SecretAccess {
                    capability,
                    persona,
                    secret,
                    operation,
                    target,
                    refused,
                } => {
                    assert_eq!((capability.unwrap().as_str(), target), ("probe", None));
                    assert!(persona.is_some());
                    (secret.to_string(), operation, refused)
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[tokio::test]
async fn only_granted_names_open() {
    let mut fixture = open_fixture();
    for name in ["else", "TOKEN", "token\0", ""] {
        assert_eq!(told(fixture.open(name).await).0, "denied", "{name:?}");
    }
    assert!(
        fixture
            .kept
            .denial()
            .1
            .contains("[permissions.\"secret:read\"]: secrets")
    );
    assert!(fixture.open("token").await.is_ok());
}

#[tokio::test]
async fn the_entry_that_a_denial_names_is_one_that_a_manifest_may_have() {
    let (_, text) = told(open_fixture().open("else").await);
    let entry = &text[text.find("secrets = ").unwrap()..=text.rfind(']').unwrap()];
    let asked = Permissions {
        secret_read: Some(toml::from_str(entry).unwrap()),
        ..Permissions::default()
    };
    assert_eq!(check_scopes(&asked), Ok(()), "{text}");
    assert_eq!(asked.secret_read.unwrap().secrets[0].name.as_str(), "else");
}

#[tokio::test]
async fn what_the_manifest_asks_for_is_denied_with_whoever_gives_less() {
    let asked = json!({
        "secret:read": { "secrets": [{ "name": "cut", "use": "reveal" }] },
        "secret:write": { "names": ["cut"] },
    });
    let cut = Cut {
        policy: serde_json::from_value(asked).unwrap(),
        ..Cut::default()
    };
    let parts = testing::grant_parts(json!({}), Limits::default(), &[]);
    let Trial { call, kept } = Trial::new(Arc::new(Grant::new(GrantParts { cut, ..parts })));
    let mut fixture = Fixture {
        state: State::new(call, StandardStreams::Log),
        kept,
        source: Arc::default(),
    };
    let why = "is not granted: capability.toml asks for it, and the policy gives less: `aral explain probe --why-not` names the line";
    for (kind, text) in [told(fixture.open("cut").await), told(fixture.put("cut", vec![1]).await)] {
        assert!(kind == "denied" && text.ends_with(why), "{text}");
        assert_eq!(fixture.kept.denial().0, "cut");
    }
    assert!(told(fixture.open("else").await).1.contains("add to capability.toml"));
}

#[tokio::test]
async fn a_guest_that_opens_a_secret_again_and_again_hides_nothing_behind_that() {
    let mut fixture = open_fixture();
    for name in ["token", "open", "token"] {
        for _ in 0..HOST_CALL_EVENTS_MAX {
            let secret = fixture.open(name).await.unwrap();
            HostSecret::drop(&mut fixture.state, secret).await.unwrap();
        }
    }
    fixture.state.call.allowed(Permission::Exec, "/bin/a");
    let recorded = [
        (Permission::SecretRead, "token".to_owned(), None),
        (Permission::SecretRead, "open".to_owned(), None),
        (Permission::Exec, "/bin/a".to_owned(), None),
    ];
    assert_eq!(fixture.kept.host_calls(), recorded);
}

#[tokio::test]
async fn a_secret_is_used_as_its_scope_says() {
    let mut fixture = open_fixture();
    let request = fixture.request();
    fixture.attach("token", &request).await.unwrap();
    for name in ["bare", "open"] {
        let (kind, text) = told(fixture.attach(name, &request).await);
        assert!(kind == "denied" && text.contains("use = \"inject\""), "{name}: {text}");
    }
    for name in ["token", "bare"] {
        let (kind, text) = told(fixture.reveal(name).await);
        assert!(kind == "denied" && text.contains("use = \"reveal\""), "{name}: {text}");
        assert_eq!(fixture.kept.denial().0, name);
    }
    assert!(
        fixture.accesses().is_empty(),
        "a denial is recorded as one, and a mark is no use yet"
    );
    assert_eq!(fixture.reveal("open").await.unwrap(), b"shown to all");
    assert_eq!(fixture.accesses(), [("open".to_owned(), SecretOperation::Reveal, None)]);
}

#[tokio::test]
async fn two_secrets_do_not_share_a_header() {
    let mut fixture = open_fixture();
    let (one, two) = (fixture.request(), fixture.request());
    fixture.attach("token", &one).await.unwrap();
    fixture.attach("token", &one).await.unwrap();
    let (kind, text) = told(fixture.attach("other", &one).await);
    assert!(
        kind == "denied" && text.contains("both belong into header `authorization`"),
        "{text}"
    );
    assert!(fixture.kept.denial().1.contains("attach one of them"));
    fixture.attach("other", &two).await.unwrap();
    // Neither do they where servers take two spellings for one.
    fixture.attach("dashed", &two).await.unwrap();
    let (kind, text) = told(fixture.attach("lined", &two).await);
    assert!(
        kind == "denied" && text.contains("`dashed` and `lined` both belong into header `x_api_key`"),
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_had_is_unavailable_without_saying_where_it_is() {
    let mut fixture = open_fixture();
    let (kind, text) = told(fixture.reveal("missing").await);
    assert!(
        kind == "unavailable" && text.contains("`missing`") && !text.contains("env://"),
        "{text}"
    );
    let down = TestSource {
        down: true,
        ..TestSource::default()
    };
    let mut fixture = self::fixture(Limits::default(), down);
    let (kind, text) = told(fixture.reveal("open").await);
    assert!(kind == "unavailable" && !text.contains("10.9.8.7"), "{text}");
    let refused = fixture.accesses();
    assert!(
        refused[0].2.as_deref().is_some_and(|text| !text.contains("10.9.8.7")),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_place_that_hangs_is_waited_for_until_the_deadline() {
    let slow = |secret_ms| {
        let source = TestSource {
            delay: Duration::from_millis(300),
            ..TestSource::of(&[("OPEN", "shown to all")])
        };
        fixture(
            Limits {
                secret_ms,
                ..Limits::default()
            },
            source,
        )
    };
    let mut late = slow(50);
    let warnings = Warnings::default();
    // Where there is one listener alone, `tracing` asks the thread that comes first, and that may be another test's.
    let _other = tracing::Dispatch::new(Warnings::default());
    let listening = tracing::subscriber::set_default(warnings.clone());
    let (kind, text) = told(late.reveal("open").await);
    assert!(kind == "limit" && text.contains("secret_ms"), "{text}");
    assert!(!text.contains("stored"), "nothing was to be stored: {text}");
    assert_eq!(warnings.count(), 1, "the operator learns of it");
    let (kind, text) = told(late.put("mine", b"a value".to_vec()).await);
    assert!(kind == "limit" && text.contains("may have been stored"), "{text}");
    assert_eq!(warnings.count(), 2);
    drop(listening);
    let accesses = late.accesses();
    let recorded: Vec<_> = accesses
        .iter()
        .map(|(name, operation, _)| (name.as_str(), *operation))
        .collect();
    assert_eq!(
        recorded,
        [("open", SecretOperation::Reveal), ("mine", SecretOperation::Write)]
    );
    for (.., refused) in &accesses {
        assert!(
            refused.as_deref().is_some_and(|text| text.contains("secret_ms")),
            "{accesses:?}"
        );
    }
    let mut patient = slow(60_000);
    assert!(patient.reveal("open").await.is_ok() && patient.put("mine", vec![1]).await.is_ok());
}

#[tokio::test]
async fn the_number_of_uses_is_bounded() {
    for (secret_calls, third) in [(2, false), (3, true)] {
        let limits = Limits {
            secret_calls,
            ..Limits::default()
        };
        let mut fixture = fixture(limits, TestSource::of(&[("OPEN", "shown to all")]));
        fixture.reveal("open").await.unwrap();
        fixture.put("mine", vec![1]).await.unwrap();
        let again = fixture.reveal("open").await;
        assert_eq!(again.is_ok(), third);
        if !third {
            let (kind, text) = told(again);
            assert!(kind == "limit" && text.contains("secret_calls"), "{text}");
            assert!(fixture.kept.denial().1.contains("secret_calls"));
        }
    }
}

#[tokio::test]
async fn storing_needs_the_name_and_a_size() {
    let mut fixture = open_fixture();
    let (kind, text) = told(fixture.put("token", vec![1]).await);
    assert!(
        kind == "denied" && text.contains("[permissions.\"secret:write\"]: names = [\"token\"]"),
        "{text}"
    );
    assert_eq!(told(fixture.put("mine", Vec::new()).await).0, "invalid-input");
    assert!(fixture.accesses().is_empty());
    let (kind, text) = told(fixture.put("mine", vec![0; SECRET_BYTES_MAX + 1]).await);
    assert_eq!(kind, "limit");
    assert!(fixture.source.value("MINE").is_none());
    let write = |refused| ("mine".to_owned(), SecretOperation::Write, refused);
    assert_eq!(
        fixture.accesses(),
        [write(Some(text.clone()))],
        "what is too long is seen"
    );
    fixture.put("mine", vec![7; SECRET_BYTES_MAX]).await.unwrap();
    assert_eq!(fixture.source.value("MINE"), Some(vec![7; SECRET_BYTES_MAX]));
    assert_eq!(fixture.accesses(), [write(Some(text)), write(None)]);
}

#[tokio::test]
async fn a_use_that_is_given_up_is_recorded_too() {
    let source = TestSource {
        delay: Duration::from_secs(60),
        ..TestSource::default()
    };
    let mut fixture = fixture(Limits::default(), source);
    let stored = tokio::time::timeout(Duration::from_millis(50), fixture.put("mine", vec![1])).await;
    assert!(stored.is_err());
    let refused = fixture.accesses();
    assert!(
        refused[0].2.as_deref().is_some_and(|text| text.contains("given up")),
        "{refused:?}"
    );
}

/// Looks again until it is so, for as long as a slow machine may need.
async fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..2_000 {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[tokio::test]
async fn a_local_write_is_recorded_as_it_ended_though_its_guest_gave_up() {
    for (secret_ms, broken) in [(20, false), (20, true), (60_000, false), (60_000, true)] {
        let store = Arc::new(TestStore {
            broken,
            stopped: AtomicBool::new(true),
            ..TestStore::default()
        });
        let limits = Limits {
            secret_ms,
            ..Limits::default()
        };
        let mut fixture = local_fixture(limits, &local_secrets(&store));
        let answer = tokio::time::timeout(Duration::from_millis(200), fixture.put("mine", vec![1])).await;
        let begun = eventually(|| store.inside.load(Ordering::SeqCst) == 1).await;
        let before = fixture.accesses();
        // Before anything can fail here: the end of the test waits for the write.
        store.stopped.store(false, Ordering::SeqCst);
        assert!(begun && before.is_empty(), "{before:?}");
        let answer = answer.ok().map(|answer| told(answer).0);
        assert_eq!(answer, (secret_ms == 20).then_some("limit"));
        assert!(eventually(|| !fixture.accesses().is_empty()).await);
        let accesses = fixture.accesses();
        let [(name, SecretOperation::Write, refused)] = &accesses[..] else {
            panic!("{accesses:?}");
        };
        assert_eq!((name.as_str(), refused.is_some()), ("mine", broken));
        assert_eq!(store.names().is_empty(), broken, "what is recorded is what happened");
    }
}

#[tokio::test]
async fn local_secrets_that_nobody_waits_for_do_not_pile_up() {
    let store = Arc::new(TestStore::default());
    let limits = Limits {
        secret_ms: 20,
        ..Limits::default()
    };
    let secrets = local_secrets(&store);
    // As of so many personas: each fixture has what the guests of one share for itself.
    let mut fixtures = [(); LOCAL_OPERATIONS_MAX / 4 + 1].map(|()| local_fixture(limits.clone(), &secrets));
    store.stopped.store(true, Ordering::SeqCst);
    let mut answers = Vec::new();
    for fixture in &mut fixtures {
        for _ in 0..4 {
            answers.push(fixture.put("mine", vec![1]).await);
        }
    }
    answers.push(fixtures[0].reveal("open").await.map(drop));
    let full = eventually(|| store.inside.load(Ordering::SeqCst) == LOCAL_OPERATIONS_MAX).await;
    let inside = store.inside.load(Ordering::SeqCst);
    // Before anything can fail here: the end of the test waits for them.
    store.stopped.store(false, Ordering::SeqCst);
    assert!(full, "{inside} were under way");
    assert!(answers.into_iter().all(|answer| told(answer).0 == "limit"));
    // Those that began are recorded when they end, the others never happen.
    let written = || {
        let accesses = fixtures.iter().flat_map(Fixture::accesses);
        accesses.filter(|access| access.2.is_none()).count()
    };
    assert!(eventually(|| written() == LOCAL_OPERATIONS_MAX).await, "{}", written());
    assert!(eventually(|| store.inside.load(Ordering::SeqCst) == 0).await);
    let mut patient = local_fixture(Limits::default(), &secrets);
    assert!(patient.put("mine", vec![2]).await.is_ok());
}

/// Where local secrets are.
fn local() -> SecretReference {
    SecretReference::Local {
        name: "open".parse().unwrap(),
    }
}

/// Local secrets, of which one may be revealed.
async fn local_with_one() -> Secrets {
    let secrets = local_secrets(&Arc::new(TestStore::default()));
    let value = SecretValue::new(b"shown to all".to_vec());
    secrets.put(&"open".parse().unwrap(), &value).await.unwrap();
    secrets
}

#[tokio::test]
async fn the_guests_of_a_persona_keep_no_other_from_secrets() {
    let limits = Limits {
        secret_ms: 500,
        ..Limits::default()
    };
    let secrets = local_with_one().await;
    let mut fixture = local_fixture(limits, &secrets);
    let uses = fixture.state.call.frame.services.secret_uses.clone();
    let places = uses.of(&local()).unwrap();
    for (persona, is_own) in [("another", false), ("tester", true)] {
        secrets.forget_local();
        let persona = persona.parse().unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| places.take_now(&persona)).take(100).collect();
        assert_eq!(taken.len(), 4);
        let revealed = fixture.reveal("open").await;
        let put = fixture.put("mine", vec![1]).await;
        assert_eq!((revealed.is_err(), put.is_err()), (is_own, is_own), "{persona}");
        if is_own {
            for (answer, stored) in [(revealed.map(drop), false), (put, true)] {
                let (kind, text) = told(answer);
                assert!(kind == "limit" && text.contains("had no turn"), "{text}");
                assert_eq!(text.contains("nothing was stored"), stored, "{text}");
            }
        }
    }
    assert!(fixture.reveal("open").await.is_ok());
}

#[tokio::test]
async fn what_lies_in_memory_needs_no_place() {
    let mut cached = local_fixture(Limits::default(), &local_with_one().await);
    assert!(cached.reveal("open").await.is_ok());
    for mut fixture in [cached, open_fixture()] {
        let uses = fixture.state.call.frame.services.secret_uses.clone();
        let persona = fixture.state.call.frame.grant.persona.clone();
        let vault = "vault://kv/app#token".parse().unwrap();
        let take = |place: &SecretReference| uses.of(place).unwrap().take_now(&persona);
        let mut held = Vec::new();
        for place in [local(), vault] {
            let taken: Vec<_> = std::iter::from_fn(|| take(&place)).take(100).collect();
            assert_eq!(taken.len(), 4, "of {place}, whatever is taken of the other");
            held.push(taken);
        }
        assert_eq!(fixture.reveal("open").await.unwrap(), b"shown to all");
        drop(held);
    }
}

#[tokio::test]
async fn a_local_read_has_its_place_until_it_has_ended() {
    let store = Arc::new(TestStore::default());
    let limits = Limits {
        secret_ms: 20,
        ..Limits::default()
    };
    let secrets = local_secrets(&store);
    // Each fixture has what the guests of one persona share for itself.
    let [mut one, mut two] = [(); 2].map(|()| local_fixture(limits.clone(), &secrets));
    let uses = one.state.call.frame.services.secret_uses.clone();
    let persona = one.state.call.frame.grant.persona.clone();
    store.stopped.store(true, Ordering::SeqCst);
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(told(one.reveal("open").await).0);
    }
    let left = uses.of(&local()).unwrap().left(&persona).0;
    let of_one = eventually(|| store.inside.load(Ordering::SeqCst) == 4).await;
    answers.push(told(two.reveal("open").await).0);
    let of_two = eventually(|| store.inside.load(Ordering::SeqCst) == 5).await;
    // Before anything can fail here: the end of the test waits for the reads.
    store.stopped.store(false, Ordering::SeqCst);
    assert!(answers.iter().all(|answer| *answer == "limit"), "{answers:?}");
    assert!(of_one && of_two, "no more than its share, and others have theirs");
    assert_eq!(left, 0);
    assert!(eventually(|| uses.of(&local()).unwrap().left(&persona).0 == 4).await);
}

#[tokio::test]
async fn a_local_write_has_its_place_until_it_has_ended() {
    let store = Arc::new(TestStore::default());
    let limits = Limits {
        secret_ms: 20,
        ..Limits::default()
    };
    let mut fixture = local_fixture(limits, &local_secrets(&store));
    let uses = fixture.state.call.frame.services.secret_uses.clone();
    let persona = fixture.state.call.frame.grant.persona.clone();
    store.stopped.store(true, Ordering::SeqCst);
    for left in [3, 2, 1, 0, 0] {
        assert_eq!(told(fixture.put("mine", vec![1]).await).0, "limit");
        let (own, _all) = uses.of(&local()).unwrap().left(&persona);
        // Before anything can fail here: the end of the test waits for the writes.
        if own != left {
            store.stopped.store(false, Ordering::SeqCst);
        }
        assert_eq!(own, left);
    }
    store.stopped.store(false, Ordering::SeqCst);
    assert!(eventually(|| uses.of(&local()).unwrap().left(&persona).0 == 4).await);
}

#[tokio::test]
async fn without_secrets_the_lines_that_make_some_are_named() {
    let permissions = json!({
        "secret:read": { "secrets": [
            { "name": "token", "hosts": ["https://a.example"], "header": "x-key" },
            { "name": "open", "use": "reveal" },
        ]},
        "secret:write": { "names": ["mine"] },
    });
    let Trial { call, kept } = Trial::new(testing::grant(permissions, Limits::default(), &[]));
    let mut fixture = Fixture {
        state: State::new(call, StandardStreams::Log),
        kept,
        source: Arc::default(),
    };
    let request = fixture.request();
    for (kind, text) in [
        told(fixture.attach("token", &request).await),
        told(fixture.reveal("open").await),
        told(fixture.put("mine", vec![1]).await),
    ] {
        assert!(
            kind == "unavailable" && text.contains("aral.toml [secrets.names]"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_persona_that_is_not_cleared_for_secrets_may_have_them_injected_and_no_more() {
    let source = TestSource::of(&[("OPEN", "shown to all"), ("TOKEN", "hidden from all")]);
    let mut fixture = fixture_for(Limits::default(), source, Classification::Confidential);
    let request = fixture.request();
    fixture.attach("token", &request).await.unwrap();
    let denied = (
        "denied",
        "the value is `secret`, and the persona is cleared for `confidential`: persona, \"clearance\": \"secret\""
            .to_owned(),
    );
    assert_eq!(told(fixture.reveal("open").await), denied);
    assert_eq!(told(fixture.put("mine", b"value".to_vec()).await), denied);
    assert_eq!(fixture.accesses(), []);
    assert_eq!(
        fixture
            .kept
            .host_calls()
            .iter()
            .filter(|(_, _, reason)| reason.is_some())
            .count(),
        2
    );
}
