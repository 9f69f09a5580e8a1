//! Whatever somebody sends to a listener that speaks HTTP: the server gives an answer or none, ends the connection, and goes on.

use aral_fuzzing::{Connections, Edit, Edits};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::guests::RUNTIME_ECHO_TOOL;

const REQUESTS: [&[u8]; 6] = [
    include_bytes!("../../../fuzz/seeds/connection/invoke"),
    include_bytes!("../../../fuzz/seeds/connection/mcp"),
    include_bytes!("../../../fuzz/seeds/connection/pipelined"),
    ECHO,
    TOKEN,
    SIGNED,
];
const TOKEN: &[u8] = include_bytes!("../../../fuzz/seeds/connection/token");
const SIGNED: &[u8] = include_bytes!("../../../fuzz/seeds/connection/signed");
const ECHO: &[u8] = include_bytes!("../../../fuzz/seeds/connection/echo");

fn changed() -> impl Strategy<Value = Vec<u8>> {
    let place = any::<u32>;
    let edit = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, to)| Edit::Set { at, to }),
        (place(), any::<u8>()).prop_map(|(at, count)| Edit::Remove { at, count }),
        (place(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        (place(), place(), any::<u16>()).prop_map(|(from, to, count)| Edit::Copy { from, to, count }),
        place().prop_map(|at| Edit::Cut { at }),
    ];
    let edits = prop::collection::vec(edit, 0..4).prop_map(Edits);
    (prop::sample::select(REQUESTS.to_vec()), edits).prop_map(|(request, edits)| edits.of(request))
}

#[test]
fn whatever_is_sent_the_server_goes_on() {
    let server = Connections::new(&RUNTIME_ECHO_TOOL.bytes());
    let send = |bytes: Vec<u8>| {
        server.send(&bytes);
        Ok(())
    };
    let config = ProptestConfig::with_cases(150);
    TestRunner::new(config).run(&changed(), send).expect("it goes on");
}

/// What the seeds show is taken: changed a little, it leads past the first check.
#[test]
fn what_fuzzers_begin_with_is_good() {
    let server = Connections::new(&RUNTIME_ECHO_TOOL.bytes());
    for (case, request, expected) in [
        ("a token", TOKEN, 200),
        ("a signature", SIGNED, 200),
        ("the same signature", SIGNED, 401),
        ("an answer in an answer", ECHO, 200),
    ] {
        assert_eq!(server.answers(request), [expected], "{case}");
    }
    let forged = |request: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(request.to_vec()).expect("a text");
        assert!(text.contains(from), "{text}");
        server.answers(text.replacen(from, to, 1).as_bytes())
    };
    assert_eq!(forged(TOKEN, "Bearer e", "Bearer f"), [401]);
    assert_eq!(forged(SIGNED, "nonce=\"1\"", "nonce=\"2\""), [401]);
}
