//! Standard error of a server whose reader pauses: nobody waits for that reader, and lines that are lost are counted.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use super::metrics::metrics;
use super::reload::until;
use crate::support::desk::program;
use crate::support::guests::*;
use crate::support::server::{Server, desk};

const ECHO: &str = "runtime-echo-tool";

#[test]
fn a_reader_of_the_log_that_pauses_holds_up_nobody_and_what_is_lost_is_counted() {
    for goes_on in [true, false] {
        let desk = desk(|_| ());
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        let log = desk.path("log");
        mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        // A reader that reads nothing. Opened for both, it waits for nobody who writes.
        let paused = OpenOptions::new().read(true).write(true).open(&log).expect("a pipe");
        let script = r#"exec "$ARAL" serve --json -v 2>log"#;
        let mut command = desk.command_of(Path::new("sh"), &["-c", script]);
        command.env("ARAL", program());
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
            let told = words.lines().find(|line| line.contains("lines of the log were lost"));
            assert!(told.is_some_and(|line| line.contains("lost=")), "{words:.2000}");
        }
    }
}
