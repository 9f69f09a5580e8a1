//! Variables that the configuration names are taken: no file of `/proc` shows them once the program works, nor does its memory. A process that keeps
//! secrets shows its own to root alone: whoever is not root runs it as the root of a namespace, which is theirs to look into.
//! Where the system gives none, these fail.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::desk::{Desk, Running, program};
use crate::support::guests::*;
use crate::support::server::{self, Server};

/// What the configuration names, with the values.
const NAMED: [(&str, &str); 3] = [
    (
        "THE_KEY",
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    ),
    ("THE_SECRET", "secret-of-the-shell"),
    ("THE_SECRET_ID", "id-of-the-role-of-machines"),
];
const KEPT: &str = "nobody-named-this-one";

/// How often it is looked whether something has come about, and how long is waited in between: half a minute in all.
const LOOKS_MAX: u32 = 1500;
const LOOKS_AGAIN: Duration = Duration::from_millis(20);

/// Has the configuration name them. No server listens at the address, and none is asked.
fn name_them(desk: &Desk) {
    desk.configure_more(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "environment": "THE_KEY" } });
        config["secrets"] = json!({
            "names": { "shell": "env://THE_SECRET" },
            "vault": {
                "address": "http://127.0.0.1:9",
                "approle": { "role_id": "machines", "secret_id_environment": "THE_SECRET_ID" },
            },
        });
    });
}

/// Whether the value of one that is named is in this text.
fn shows_named(text: &str) -> bool {
    NAMED.iter().any(|(_, value)| text.contains(value))
}

fn environment(process: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{process}/environ")).expect("it runs and may be looked into");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Which of these texts lie in memory that the process can write to: its variables, its stacks, what it allocated.
fn found_in_memory<const N: usize>(process: u32, texts: [&str; N]) -> [bool; N] {
    const PIECE: usize = 64 << 10;
    /// Longer than any of them: what lies across the end of a piece is whole in the next one.
    const OVERLAP: usize = 128;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs and may be looked into");
    let memory = File::open(format!("/proc/{process}/mem")).expect("it may be looked into");
    let mut piece = vec![0; PIECE];
    let mut found = [false; N];
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').expect("a range");
        if !rest.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("two ends");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        for at in (number(start)..number(end)).step_by(PIECE - OVERLAP) {
            // It may be gone by now, as the stack of a thread that has ended.
            let read = memory.read_at(&mut piece, at).unwrap_or(0);
            for (found, text) in found.iter_mut().zip(texts) {
                *found |= holds(&piece[..read], text.as_bytes());
            }
        }
    }
    found
}

fn holds(mut piece: &[u8], text: &[u8]) -> bool {
    let (first, others) = text.split_first().expect("a text");
    // Quick also in a program that is not optimised.
    while piece.skip_until(*first).expect("a slice") > 0 {
        if piece.starts_with(others) {
            return true;
        }
    }
    false
}

/// The program, with these variables and one more, where the test may look into it.
fn command(desk: &Desk, arguments: &[&str]) -> Command {
    let program = program().into_os_string().into_string().expect("UTF-8");
    let mut command = if rustix::process::geteuid().is_root() {
        desk.command(arguments)
    } else {
        let all = [&["--map-root-user", program.as_str()][..], arguments].concat();
        desk.command_of(Path::new("unshare"), &all)
    };
    command.envs(NAMED).env("ANOTHER", KEPT);
    command
}

fn start(desk: &Desk, arguments: &[&str]) -> Running {
    let child = command(desk, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Running(child.expect("the program starts"))
}

/// Fails the test unless its environment shows the variable that nobody named, and none that is named. That is so when it waits,
/// which is a moment after it started.
fn assert_only_the_named_are_gone(program: &Running, arguments: &[&str]) {
    let mut shown = environment(program.0.id());
    for _ in 0..LOOKS_MAX {
        if shown.contains(KEPT) && !shows_named(&shown) {
            break;
        }
        std::thread::sleep(LOOKS_AGAIN);
        shown = environment(program.0.id());
    }
    assert!(!shows_named(&shown), "{arguments:?}: {shown}");
    assert!(shown.contains(KEPT), "{arguments:?}: what nobody named stays: {shown}");
}

/// What it says on standard error until it ends.
fn words(program: &mut Running) -> String {
    let mut words = String::new();
    let mut stderr = program.0.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut words).expect("text");
    words
}

/// Its connection, once it asks. If it ends before that, the test fails with its words.
fn asked(listener: &UnixListener, program: &mut Running, arguments: &[&str]) -> UnixStream {
    for _ in 0..LOOKS_MAX {
        match listener.accept() {
            Ok((stream, _)) => {
                // Nor does a program that connects and says nothing hold the test.
                stream.set_read_timeout(Some(LOOKS_AGAIN * LOOKS_MAX)).expect("a time");
                return stream;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        if let Some(status) = program.0.try_wait().expect("it is ours") {
            panic!("{arguments:?} ended before it asked, {status}: {}", words(program));
        }
        std::thread::sleep(LOOKS_AGAIN);
    }
    panic!("{arguments:?} does not ask");
}

#[test]
fn a_running_program_shows_no_variable_that_its_configuration_names() {
    let desk = Desk::new();
    name_them(&desk);
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    for arguments in [
        &["invoke", "runtime-echo-tool", "--input", "-"][..],
        &["memory", "put", "notes", "todo", "-"],
        &["secret", "put", "local", "-"],
    ] {
        let mut child = start(&desk, arguments);
        assert_only_the_named_are_gone(&child, arguments);
        let mut stdin = child.0.stdin.take().expect("a pipe");
        stdin.write_all(b"{}").expect("it reads");
        drop(stdin);
        let words = words(&mut child);
        assert!(child.0.wait().expect("an end").success(), "{arguments:?}: {words}");
    }
}

#[test]
fn a_program_that_only_watches_shows_no_variable_either() {
    let desk = Desk::new();
    name_them(&desk);
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let invoked = command(&desk, &["invoke", "runtime-echo-tool", "--input", "{}"]).output();
    assert!(invoked.expect("the program starts").status.success());
    // It waits for the next record.
    let arguments = ["audit", "tail", "--follow"];
    assert_only_the_named_are_gone(&start(&desk, &arguments), &arguments);
}

#[test]
fn a_program_that_asks_a_server_shows_no_variable_while_it_waits() {
    let desk = Desk::new();
    name_them(&desk);
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    // A server that takes what it is asked, and says nothing.
    let listener = UnixListener::bind(desk.path("state/admin.sock")).expect("a socket");
    listener.set_nonblocking(true).expect("a socket of ours");
    for arguments in [
        &["register", "manifest.json"][..],
        &["withdraw", "runtime-echo-tool@1.0.0"],
        &["status"],
        &["reload"],
        &["policy", "show"],
        &["top", "--json", "--interval-ms", "3600000"],
    ] {
        let mut child = start(&desk, arguments);
        let mut stream = asked(&listener, &mut child, arguments);
        if arguments.contains(&"top") {
            // It waits a few seconds for an answer, and then an hour until it looks again.
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("it reads");
            stream.shutdown(Shutdown::Both).expect("it is connected");
        }
        assert_only_the_named_are_gone(&child, arguments);
    }
}

/// A server whose configuration names the variables, and one whose does not; each with whether it has taken them.
fn servers() -> impl Iterator<Item = (Desk, Server, bool)> {
    [true, false].into_iter().map(|is_taken| {
        let desk = server::desk(|_| ());
        if is_taken {
            name_them(&desk);
        }
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        let server = Server::from(command(&desk, &["serve", "--quiet", "--json"]));
        (desk, server, is_taken)
    })
}

#[test]
fn a_server_has_taken_what_is_named_and_nothing_else() {
    for (_desk, server, is_taken) in servers() {
        let shown = environment(server.id());
        assert!(shown.contains(KEPT), "{shown}");
        for (_, value) in NAMED {
            assert_ne!(shown.contains(value), is_taken, "{shown}");
        }
    }
}

#[test]
fn the_memory_of_a_server_shows_no_variable_that_its_configuration_names() {
    for (_desk, server, is_taken) in servers() {
        // Its store is open by then, with the key.
        assert_eq!(server.get("/ready").status, 200);
        let [key, secret, secret_id] = NAMED.map(|(_, value)| value);
        let found = found_in_memory(server.id(), [key, secret, secret_id, KEPT]);
        assert_eq!(found, [!is_taken, !is_taken, !is_taken, true]);
    }
}
