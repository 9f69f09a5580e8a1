//! Granted folders: who makes room for whose, and who does not.

use super::*;

/// A host with room for four folders, of which a persona may have two. `reader` has one, `both` has two, `echo` has none.
fn four() -> Fixture {
    let policy = format!("{OPEN}file.read_roots = [\"/usr\"]\n");
    let file_work = FileWork::within(Some(16));
    let compiler = RuntimeOptions::default().compiler;
    let fixture = fixture_within(file_work, compiler, &policy, GateOptions::default());
    let reads = |guests: &[&str]| {
        let paths: Vec<Value> = guests
            .iter()
            .map(|guest| json!({"guest": guest, "host": "/usr"}))
            .collect();
        json!({"permissions": {"file:read": {"paths": paths}}})
    };
    fixture.admit("echo", &echo(), json!({}));
    fixture.admit("reader", &echo(), reads(&["/a"]));
    fixture.admit("other", &echo(), reads(&["/a"]));
    fixture.admit("both", &echo(), reads(&["/a", "/b"]));
    fixture
}

fn persona_of(id: &str) -> Persona {
    let document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-12-01T00:00:00Z",
        "id": id, "name": id, "constraints": {"allowed_permissions": ["*"], "allowed_capabilities": ["*"]},
    });
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    persona::dangerous_accept_unsigned(document.to_string().as_bytes(), now).unwrap()
}

/// A session that the host knows.
fn opened(fixture: &Fixture, id: &str) -> Session {
    fixture.dispatcher.open(persona_of(id)).unwrap()
}

impl Fixture {
    /// A second later, how a call ends and whether it was decided anew.
    async fn reads(&self, session: &Session, id: &str) -> (Option<Code>, bool) {
        let later = self.clock.now().saturating_add(jiff::SignedDuration::from_secs(1));
        self.clock.set(later.unwrap());
        self.events();
        let outcome = self.call_as(session, id, "{}").await;
        let decided = |kind: &EventKind| matches!(kind, EventKind::Decision { .. });
        let decided = self.events().iter().any(decided);
        (outcome.result.err().map(|failure| failure.code), decided)
    }

    /// Holds what a call under way holds.
    async fn holds(&self, session: &Session, id: &str) -> Arc<Granted> {
        let id = id.parse().unwrap();
        self.dispatcher.prepare(session, &id, None).await.unwrap();
        self.dispatcher.authorize(session, &id, None).unwrap()
    }
}

const KEPT: (Option<Code>, bool) = (None, false);
const ANEW: (Option<Code>, bool) = (None, true);

#[tokio::test]
async fn folders_of_those_who_asked_the_longest_time_ago_make_room() {
    let fixture = four();
    let sessions = ["one", "two", "three", "four", "five", "six"].map(|id| opened(&fixture, id));
    for session in &sessions[..4] {
        assert_eq!(fixture.reads(session, "reader").await, ANEW);
        assert_eq!(fixture.reads(session, "echo").await, ANEW);
    }
    // Who asked last did so also where the time of day was set back.
    fixture.set_clock("2026-05-31T23:00:00Z");
    assert_eq!(fixture.reads(&sessions[0], "reader").await, KEPT);
    for session in &sessions[4..] {
        assert_eq!(fixture.reads(session, "reader").await, ANEW);
    }
    // The second and the third made room, with nothing else of theirs.
    for (session, expected) in sessions.iter().zip([KEPT, ANEW, ANEW, ANEW]) {
        assert_eq!(fixture.reads(session, "reader").await, expected);
        assert_eq!(fixture.reads(session, "echo").await, KEPT);
    }
}

#[tokio::test]
async fn folders_of_sessions_that_are_over_make_room_first() {
    let fixture = four();
    let known = ["one", "two", "three"].map(|id| opened(&fixture, id));
    for session in &known {
        assert_eq!(fixture.reads(session, "reader").await, ANEW);
    }
    let gone = loose(persona_of("gone"));
    assert_eq!(fixture.reads(&gone, "reader").await, ANEW);
    assert_eq!(fixture.reads(&opened(&fixture, "new"), "reader").await, ANEW);
    for session in &known {
        assert_eq!(fixture.reads(session, "reader").await, KEPT);
    }
    assert_eq!(fixture.reads(&gone, "reader").await, ANEW);
}

#[tokio::test]
async fn folders_that_are_in_use_stay_open() {
    let fixture = four();
    let sessions = ["one", "two", "three", "four", "five"].map(|id| opened(&fixture, id));
    let mut held = Vec::new();
    for session in &sessions[..4] {
        held.push(fixture.holds(session, "reader").await);
    }
    assert_eq!(
        fixture.reads(&sessions[4], "reader").await,
        (Some(Code::Unavailable), true)
    );
    assert_eq!(fixture.reads(&sessions[4], "echo").await, ANEW, "what needs no folder");
    drop(held.remove(2));
    assert_eq!(fixture.reads(&sessions[4], "reader").await, KEPT);
    drop(held);
    for (session, expected) in sessions.iter().zip([KEPT, KEPT, ANEW]) {
        assert_eq!(fixture.reads(session, "reader").await, expected);
    }
}

#[tokio::test]
async fn of_those_who_want_room_at_once_all_get_some() {
    let fixture = four();
    let id = "reader".parse().unwrap();
    for round in 0..10 {
        let sessions = ["a", "b", "c", "d"].map(|name| opened(&fixture, &format!("{name}{round}")));
        let dispatcher = &fixture.dispatcher;
        let prepared = tokio::join!(
            dispatcher.prepare(&sessions[0], &id, None),
            dispatcher.prepare(&sessions[1], &id, None),
            dispatcher.prepare(&sessions[2], &id, None),
            dispatcher.prepare(&sessions[3], &id, None),
        );
        for prepared in <[Result<(), Failure>; 4]>::from(prepared) {
            prepared.unwrap();
        }
    }
}

#[tokio::test]
async fn who_wants_room_while_another_makes_some_finds_it() {
    let fixture = four();
    let [one, two, three, four] = ["one", "two", "three", "four"].map(|id| opened(&fixture, id));
    let _held = fixture.holds(&two, "both").await;
    let id = "reader".parse().unwrap();
    let wanting = [three, four].map(|session| fixture.dispatcher.authorize(&session, &id, None).unwrap());
    let ruling = fixture.dispatcher.ruling.load_full();
    for _round in 0..50 {
        // Both folders that can be let go of.
        drop(fixture.holds(&one, "both").await);
        let (ruling, start) = (&ruling, &std::sync::Barrier::new(wanting.len()));
        let made = std::thread::scope(|scope| {
            let threads = wanting.each_ref().map(|wanting| {
                scope.spawn(move || {
                    start.wait();
                    ruling.make_room(wanting, |_, _| false)
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(made, [true; 2]);
    }
}

#[tokio::test]
async fn a_persona_that_has_its_share_makes_room_for_itself_alone() {
    let fixture = four();
    let [one, two, three] = ["one", "two", "three"].map(|id| opened(&fixture, id));
    assert_eq!(fixture.reads(&two, "reader").await, ANEW);
    assert_eq!(fixture.reads(&three, "reader").await, ANEW);
    assert_eq!(fixture.reads(&one, "reader").await, ANEW);
    assert_eq!(fixture.reads(&one, "both").await, ANEW);
    let held = fixture.holds(&one, "both").await;
    // As those of its own are in use, nobody else's would do.
    assert_eq!(fixture.reads(&one, "reader").await, (Some(Code::Unavailable), true));
    assert_eq!(fixture.reads(&two, "reader").await, KEPT);
    assert_eq!(fixture.reads(&three, "reader").await, KEPT);
    drop(held);
    assert_eq!(fixture.reads(&one, "reader").await, KEPT);
    assert_eq!(fixture.reads(&one, "other").await, ANEW, "there is room for both");
    assert_eq!(fixture.reads(&one, "reader").await, KEPT);
    assert_eq!(fixture.reads(&one, "both").await, ANEW);
}

#[tokio::test]
async fn calls_under_an_old_policy_keep_no_folder_that_they_do_not_use() {
    let fixture = four();
    let sessions = ["one", "two", "three", "four"].map(|id| opened(&fixture, id));
    for session in &sessions {
        assert_eq!(fixture.reads(session, "reader").await, ANEW);
    }
    let held = fixture.holds(&sessions[0], "reader").await;
    let policy = policy(&format!("{OPEN}file.read_roots = [\"/usr\"]\nbreaker.failures = 3\n"));
    let registry = fixture.dispatcher.registry().renewed(|_| true);
    let renewed = fixture.dispatcher.renewed(registry, policy, TrustStore::default());
    // Until the new one is in force, and if it never is, nothing has changed.
    for session in &sessions {
        assert_eq!(fixture.reads(session, "reader").await, KEPT);
    }
    fixture.dispatcher.give_way_to(&renewed);
    let id = "reader".parse().unwrap();
    for session in &sessions[1..] {
        renewed.prepare(session, &id, None).await.unwrap();
    }
    drop(held);
    renewed.prepare(&sessions[0], &id, None).await.unwrap();
}
