//! The writing program from outside: started with a script, listened to, and killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use aral_memory::sealed::Step;

use crate::script::Turn;
use crate::support::Place;

/// What a writer is to do.
pub(crate) struct Run<'a> {
    pub(crate) place: &'a Place,
    pub(crate) key: &'a str,
    /// When it begins, in seconds since 1970.
    pub(crate) now: i64,
    pub(crate) turns: &'a [Turn],
    /// At which step it kills itself, and at which time there.
    pub(crate) killed_at: Option<(Step, usize)>,
}

/// A writer that runs.
pub(crate) struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
    acknowledged: Vec<usize>,
    is_open: bool,
    is_ended: bool,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How many turns of each thread were acknowledged.
    pub(crate) acknowledged: Vec<usize>,
    /// Whether the store had been opened.
    pub(crate) is_open: bool,
    /// Whether all was done before it was killed.
    pub(crate) is_ended: bool,
    /// What it complained of.
    pub(crate) complaint: String,
}

/// The program `examples/writer.rs`. It is built together with the tests.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("a program");
    let built = tests.parent().and_then(Path::parent).expect("a folder");
    let program = built.join("examples/writer");
    assert!(
        program.exists(),
        "`{}` is not built; run the tests with `cargo test` or `cargo nextest run`",
        program.display()
    );
    program
}

/// The arguments of the program for a run. Writes its script beside the store.
pub(crate) fn arguments(run: &Run<'_>) -> Vec<String> {
    let script = run.place.beside("script");
    let lines = run.turns.iter().map(|turn| format!("{turn}\n"));
    std::fs::write(&script, lines.collect::<String>()).expect("a script");
    let text = |path: PathBuf| path.into_os_string().into_string().expect("UTF-8");
    let mut arguments = vec![
        text(run.place.store()),
        run.key.to_owned(),
        run.now.to_string(),
        text(script),
    ];
    if let Some((step, nth)) = run.killed_at {
        arguments.extend([format!("{step:?}"), nth.to_string()]);
    }
    arguments
}

pub(crate) fn start(run: &Run<'_>) -> Writer {
    let mut command = Command::new(program());
    command.args(arguments(run));
    listen(command, run.turns)
}

/// Runs a command that ends in the writing program.
pub(crate) fn listen(mut command: Command, turns: &[Turn]) -> Writer {
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().expect("a writer");
    let lines = BufReader::new(child.stdout.take().expect("its output"));
    let threads = turns.iter().map(|turn| turn.thread + 1).max().unwrap_or(1);
    Writer {
        child,
        lines,
        acknowledged: vec![0; threads],
        is_open: false,
        is_ended: false,
    }
}

impl Writer {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Listens to one more line. False: there is none.
    pub(crate) fn hear(&mut self) -> bool {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("lines");
        match line.trim_end() {
            "" => return false,
            "open" => self.is_open = true,
            "end" => self.is_ended = true,
            turn => {
                let (thread, index) = turn.split_once(' ').expect("a thread and a turn");
                let (thread, index): (usize, usize) =
                    (thread.parse().expect("a thread"), index.parse().expect("a turn"));
                assert_eq!(
                    self.acknowledged[thread], index,
                    "turns are acknowledged one after the other"
                );
                self.acknowledged[thread] += 1;
            }
        }
        true
    }

    /// Listens to so many lines, or until all is done.
    pub(crate) fn hear_some(&mut self, lines: usize) {
        for _ in 0..lines {
            if self.is_ended || !self.hear() {
                return;
            }
        }
    }

    /// Listens until all is done.
    pub(crate) fn hear_all(&mut self) {
        self.hear_some(usize::MAX);
    }

    /// Kills it, as `kill -9` does, and hears what it said before.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().expect("a process to kill");
        self.end()
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self) -> Ended {
        self.hear_all();
        // It waits for the end of its input, when it has not been killed before.
        drop(self.child.stdin.take());
        while self.hear() {}
        let mut complaint = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut complaint).expect("a text");
        }
        self.child.wait().expect("its end");
        Ended {
            acknowledged: self.acknowledged,
            is_open: self.is_open,
            is_ended: self.is_ended,
            complaint,
        }
    }
}
