//! Whatever somebody sends to a listener that speaks HTTP: the server gives an answer or none, ends the connection, and goes on.

use aral_fuzzing::{Connections, Edit, Edits};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::guests::RUNTIME_ECHO_TOOL;

macro_rules! seed {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/seeds/", $name))
    };
}

const TOKEN: &[u8] = seed!("connection/token");
const SIGNED: &[u8] = seed!("connection/signed");
const ECHO: &[u8] = seed!("connection/echo");
/// The same over HTTP/2.
const TOKEN_FRAMES: &[u8] = seed!("http2/token");
const SIGNED_FRAMES: &[u8] = seed!("http2/signed");
/// Three streams, one of which is taken back, and frames of the connection.
const MANY_FRAMES: &[u8] = seed!("http2/many");
/// Fields in two frames, and a field after the body.
const SPLIT_FRAMES: &[u8] = seed!("http2/split");

/// What a fuzzer begins with, and what it found once.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(folder).expect("seeds");
    let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.expect("a seed").path());
    let seeds: Vec<Vec<u8>> = entries.map(|entry| read(entry).expect("a seed")).collect();
    assert!(seeds.len() > 5, "`{target}` has {} seeds", seeds.len());
    seeds
}

fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let place = any::<u32>;
    let edit = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, to)| Edit::Set { at, to }),
        (place(), any::<u8>()).prop_map(|(at, count)| Edit::Remove { at, count }),
        (place(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        (place(), place(), any::<u16>()).prop_map(|(from, to, count)| Edit::Copy { from, to, count }),
        place().prop_map(|at| Edit::Cut { at }),
    ];
    let edits = prop::collection::vec(edit, 0..4).prop_map(Edits);
    (prop::sample::select(seeds), edits).prop_map(|(seed, edits)| edits.of(&seed))
}

/// Each seed as it is, and then changed ones.
fn send_all(server: &Connections, target: &str) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| server.send(seed));
    let send = |bytes: Vec<u8>| {
        server.send(&bytes);
        Ok(())
    };
    let config = ProptestConfig::with_cases(150);
    TestRunner::new(config).run(&changed(seeds), send).expect("it goes on");
}

#[test]
fn whatever_is_sent_the_server_goes_on() {
    send_all(&Connections::http1(&RUNTIME_ECHO_TOOL.bytes()), "connection");
}

#[test]
fn whatever_frames_are_sent_the_server_goes_on() {
    send_all(&Connections::http2(&RUNTIME_ECHO_TOOL.bytes()), "http2");
}

/// What the seeds show is taken: changed a little, it leads past the first check.
#[test]
fn what_fuzzers_begin_with_is_good() {
    let plain = Connections::http1(&RUNTIME_ECHO_TOOL.bytes());
    let framed = Connections::http2(&RUNTIME_ECHO_TOOL.bytes());
    for (server, case, request, expected) in [
        (&plain, "a token", TOKEN, &[200][..]),
        (&plain, "a signature", SIGNED, &[200]),
        (&plain, "the same signature", SIGNED, &[401]),
        (&plain, "an answer in an answer", ECHO, &[200]),
        (&framed, "a token in frames", TOKEN_FRAMES, &[200]),
        (&framed, "a signature in frames", SIGNED_FRAMES, &[200]),
        (&framed, "the same signature in frames", SIGNED_FRAMES, &[401]),
        (&framed, "split", SPLIT_FRAMES, &[200]),
        (&framed, "many", MANY_FRAMES, &[200, 200]),
    ] {
        assert_eq!(server.answers(request), expected, "{case}");
    }
    for (server, request, from, to) in [
        (&plain, TOKEN, "Bearer e", "Bearer f"),
        (&plain, SIGNED, "nonce=\"1\"", "nonce=\"2\""),
        (&framed, TOKEN_FRAMES, "Bearer e", "Bearer f"),
        (&framed, SIGNED_FRAMES, "nonce=\"1\"", "nonce=\"2\""),
    ] {
        let at = request.windows(from.len()).position(|bytes| bytes == from.as_bytes());
        let at = at.expect("it has that");
        let mut forged = request.to_vec();
        forged.splice(at..at + from.len(), to.bytes());
        assert_eq!(server.answers(&forged), [401], "{to}");
    }
}
