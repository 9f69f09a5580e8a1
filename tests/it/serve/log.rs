//! Standard error of a server whose reader pauses: nobody waits for that reader, and lines that are lost are counted.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::process::Signal;
use serde_json::Value;

use super::metrics::metrics;
use super::reload::until;
use crate::support::desk::program;
use crate::support::guests::*;
use crate::support::server::{Server, desk};

const ECHO: &str = "runtime-echo-tool";
/// What the guest says when it dies.
const LAST_WORDS: &str = "the secret of this panic is 4711";

#[test]
fn what_a_guest_says_when_it_dies_is_in_the_log_of_a_server() {
    let run = |variable: Option<&str>| {
        let desk = desk(|_| ());
        desk.guest(RUNTIME_PANIC, |_| ());
        let mut command = desk.command(&["serve", "--json", "--log-format", "json"]);
        command.envs(variable.map(|value| ("ARAL_LOG", value)));
        let server = Server::from(command);
        let reply = server.invoke("runtime-panic", r#""panic""#);
        let problem = reply.assert_problem("a panic", 502, "guest.trap");
        let lines = server.end_and_read_log().into_iter();
        let said: Vec<Value> = lines
            .filter(|line| line["fields"]["said"].to_string().contains(LAST_WORDS))
            .collect();
        (said, problem["trace_id"].clone())
    };
    let (said, trace) = run(None);
    let [line] = &said[..] else { panic!("{said:?}") };
    assert_eq!((&line["trace_id"], &line["target"]), (&trace, &"aral::guest".into()));
    assert_eq!(
        (&line["level"], &line["fields"]["capability"]),
        (&"WARN".into(), &"runtime-panic".into())
    );
    assert_eq!(run(Some("warn,aral::guest=off")).0, Vec::<Value>::new());
}

#[test]
fn a_reader_of_the_log_that_pauses_holds_up_nobody_and_what_is_lost_is_counted() {
    // A pipe says to every program that has it whether writes to it wait.
    let (waits, does_not_wait) = (OFlags::empty(), OFlags::NONBLOCK);
    for (goes_on, flags) in [
        (true, waits),
        (false, waits),
        (true, does_not_wait),
        (false, does_not_wait),
    ] {
        let desk = desk(|_| ());
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        let log = desk.path("log");
        mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        // A reader that reads nothing. Opened for both, it waits for nobody who writes.
        let paused = open(&log, OFlags::RDWR | OFlags::CLOEXEC | flags, Mode::empty()).expect("a pipe");
        let script = r#"exec "$ARAL" serve --json --log-format json -v 2>&0 </dev/null"#;
        let mut command = desk.command_of(Path::new("sh"), &["-c", script]);
        let shared = paused.try_clone().expect("a descriptor");
        command.env("ARAL", program()).stdin(Stdio::from(shared));
        let server = Server::from(command);
        until("lines are lost", || {
            let mut wire = server.wire();
            (0..50).for_each(|_| assert_eq!(wire.invoke(ECHO, &[], "1").status, 200));
            metrics(&desk).contains("\naral_log_lines_dropped_total ")
        });
        assert_eq!((server.get("/ready").status, server.get("/health").status), (200, 200));
        let reader = goes_on.then(|| {
            let log = File::open(&log).expect("a pipe");
            std::thread::spawn(move || std::io::read_to_string(log).expect("text"))
        });
        // The pipe ends with the last of those who may write into it.
        let _paused = (!goes_on).then_some(paused);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().0, Some(0));
        if let Some(reader) = reader {
            let words = reader.join().expect("it reads");
            let lines = words.lines().filter(|line| !line.starts_with("warning: "));
            let lines: Result<Vec<Value>, _> = lines.map(serde_json::from_str).collect();
            let lines = lines.unwrap_or_else(|error| panic!("{error}: {words:.2000}"));
            let is_told = |line: &Value| {
                let message = line["message"].as_str().unwrap_or_default();
                message.starts_with("lines of the log were lost") && line["fields"]["lost"].is_u64()
            };
            assert!(lines.iter().any(is_told), "{words:.2000}");
        }
    }
}
