//! What is written to standard error, in its order and without running into a spinner. A verb writes by itself, and waits for whoever
//! reads. A server waits for nobody: its lines go through one thread, and a line that finds no room on the way is lost and counted.
//! So is a line that standard error refuses, as where its disk is full.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aral_contract::Failure;
use aral_contract::metric::LOG_LINES_DROPPED;
use aral_runtime::threads;
use metrics::counter;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::progress;

/// Bytes of lines that wait for the thread. Stops a reader that pauses from filling memory.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Bytes of one line that waits for the thread; the rest of a longer one is cut off. Lets such a line have room, too.
const LINE_BYTES_MAX: usize = WAITING_BYTES_MAX / 2;
/// What stands at the end of a line that was cut off.
const CUT_OFF: &[u8] = "…\n".as_bytes();
/// How long the end of the process waits until what waits is written.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where the lines about panics of a server come from.
pub(super) const PANIC_TARGET: &str = "aral::panic";

/// The causes of panics at which Rust ends the process as soon as the hook is over, without a farewell. Where dropping a value of a
/// thread, or what a thread or a panic left, panics, Rust ends the process with no such cause, and the line about it may be lost.
const LAST_CAUSES: [&str; 2] = [
    "panic in a destructor during cleanup",
    "panic in a function that cannot unwind",
];

static LINES: Lines = Lines::new();

thread_local! {
    /// Whether this is the thread that writes. What it says of lost lines is little, and always has room: else nobody would know of them
    /// while others leave no room.
    static PASSES_ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether lines go through the thread.
static HAS_THREAD: AtomicBool = AtomicBool::new(false);
/// Whether standard error refused the end of a line of which it has the beginning.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// From now on a thread writes, and nobody else waits for whoever reads.
pub(crate) fn hand_over() -> Result<(), Failure> {
    std::thread::Builder::new()
        .name("aral-stderr".to_owned())
        .spawn(|| LINES.pass_on(write_through))
        .map_err(threads::refused)?;
    HAS_THREAD.store(true, Ordering::Release);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// In place of what Rust does: that writes on the thread that panics, and waits for whoever reads while this thread has its locks.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string);
    // Only where `RUST_BACKTRACE` asks for one.
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = is_captured.then(|| backtrace.to_string());
    let cause = panic.payload_as_str();
    tracing::error!(
        target: PANIC_TARGET,
        thread = thread.name(),
        place = place.as_deref(),
        cause,
        backtrace = backtrace.as_deref(),
        "a thread panicked"
    );
    // Nobody needs the locks of this thread any more.
    if cause.is_some_and(|cause| LAST_CAUSES.contains(&cause)) {
        LINES.end(FAREWELL);
    }
}

/// Writes one or more whole lines.
pub(crate) fn write(lines: &[u8]) {
    if !HAS_THREAD.load(Ordering::Acquire) {
        return write_through(lines);
    }
    count_lost(LINES.put(lines));
}

fn write_through(lines: &[u8]) {
    count_lost(progress::above(|| {
        write_lines(&mut io::stderr().lock(), lines, &IS_CUT)
    }));
}

fn count_lost(lost: u64) {
    if lost > 0 {
        counter!(LOG_LINES_DROPPED.name).increment(lost);
    }
}

/// Writes lines, and waits for whoever reads them. Says how many of them were refused: a line about that would be refused, too.
fn write_lines(to: &mut (impl Write + AsFd), lines: &[u8], is_cut: &AtomicBool) -> u64 {
    // What comes behind a cut line begins a line of its own.
    let end: &[u8] = if is_cut.load(Ordering::Relaxed) { b"\n" } else { b"" };
    if !write_all(to, end).is_empty() {
        return line_count(lines);
    }
    let left = write_all(to, lines);
    let written = lines.get(..lines.len().saturating_sub(left.len()));
    let last = written.and_then(<[u8]>::last);
    is_cut.store(last.is_some_and(|byte| *byte != b'\n'), Ordering::Relaxed);
    line_count(left)
}

/// Lines, each with its end. The last one may lack it.
fn each(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split_inclusive(|byte| *byte == b'\n')
}

fn line_count(lines: &[u8]) -> u64 {
    each(lines).map(|_| 1u64).sum()
}

/// Gives back what was refused. Another program that shares a terminal or a pipe may have said that writes there do not wait for room;
/// then this waits.
fn write_all<'bytes>(to: &mut (impl Write + AsFd), bytes: &'bytes [u8]) -> &'bytes [u8] {
    let mut left = bytes;
    while !left.is_empty() {
        match to.write(left).map_err(|error| error.kind()) {
            Ok(0) => break,
            Ok(count) => left = left.get(count..).unwrap_or_default(),
            Err(ErrorKind::Interrupted) => {}
            Err(ErrorKind::WouldBlock) => match poll(&mut [PollFd::new(&*to, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            },
            Err(_) => break,
        }
    }
    left
}

/// The last of the program to go: its end waits for a while until the last lines are written.
pub(crate) struct Farewell;

impl Drop for Farewell {
    fn drop(&mut self) {
        LINES.end(FAREWELL);
    }
}

/// Lines on their way to the thread.
struct Lines {
    waiting: Mutex<Waiting>,
    /// There is something to write, or everything is written.
    changed: Condvar,
}

struct Waiting {
    bytes: Vec<u8>,
    /// Lines for which there was no room since the last ones were taken.
    lost: u64,
    is_writing: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lost == 0
    }
}

/// What is kept of a line that is too long, in whole characters; none: all of it.
fn beginning(line: &[u8]) -> Option<&[u8]> {
    let (kept, rest) = line.split_at_checked(LINE_BYTES_MAX)?;
    let next = rest.first()?;
    // The bytes of a character, but for the first one, begin with the bits 10.
    let is_inside = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    if !is_inside(next) {
        return Some(kept);
    }
    let start = kept.iter().rposition(|byte| !is_inside(byte))?;
    kept.get(..start)
}

impl Lines {
    const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                bytes: Vec::new(),
                lost: 0,
                is_writing: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Nothing that takes long happens while this is held.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how many of them there was no room. Does not wait.
    fn put(&self, lines: &[u8]) -> u64 {
        let mut lost = 0u64;
        let mut waiting = self.lock();
        for line in each(lines) {
            let (line, end) = match beginning(line) {
                Some(beginning) => (beginning, CUT_OFF),
                None => (line, &[][..]),
            };
            let length = line.len().saturating_add(end.len());
            if PASSES_ON.get() || waiting.bytes.len().saturating_add(length) <= WAITING_BYTES_MAX {
                waiting.bytes.extend_from_slice(line);
                waiting.bytes.extend_from_slice(end);
            } else {
                lost = lost.saturating_add(1);
            }
        }
        waiting.lost = waiting.lost.saturating_add(lost);
        drop(waiting);
        self.changed.notify_all();
        lost
    }

    /// All that waits, once there is something, and how many lines were lost behind that.
    fn take(&self) -> (Vec<u8>, u64) {
        let waiting = self.changed.wait_while(self.lock(), |waiting| waiting.is_empty());
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        (std::mem::take(&mut waiting.bytes), std::mem::take(&mut waiting.lost))
    }

    /// Writes whatever comes, for ever.
    fn pass_on(&self, write: impl Fn(&[u8])) {
        PASSES_ON.set(true);
        loop {
            let (bytes, lost) = self.take();
            // It comes behind what had room before.
            if lost > 0 {
                tracing::warn!(
                    lost,
                    "lines of the log were lost: whoever reads standard error is too slow"
                );
            }
            write(&bytes);
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, but no longer than that. Whether it is.
    fn end(&self, patience: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.is_empty();
        let ended = self.changed.wait_timeout_while(self.lock(), patience, is_busy);
        let (mut waiting, _) = ended.unwrap_or_else(PoisonError::into_inner);
        !is_busy(&mut waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::os::fd::BorrowedFd;
    use std::os::unix::net::UnixStream;
    use std::panic;
    use std::sync::{Arc, mpsc};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::logging::Stderr;
    use super::*;

    /// Takes so many bytes and refuses the next.
    struct Disk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Disk {
        fn as_fd(&self) -> BorrowedFd<'_> {
            panic!("nobody waits for a disk that is full")
        }
    }

    #[test]
    fn what_is_refused_is_counted_and_the_next_line_begins_on_its_own() {
        let mut disk = Disk {
            room: 5,
            written: Vec::new(),
        };
        let is_cut = AtomicBool::new(false);
        assert_eq!(write_lines(&mut disk, b"one\ntwo\nthree\n", &is_cut), 2);
        assert_eq!(write_lines(&mut disk, b"four\n", &is_cut), 1);
        disk.room = 100;
        for line in ["five\n", "six\n"] {
            assert_eq!(write_lines(&mut disk, line.as_bytes(), &is_cut), 0);
        }
        assert_eq!(String::from_utf8(disk.written).unwrap(), "one\nt\nfive\nsix\n");
    }

    #[test]
    fn a_pipe_whose_writes_do_not_wait_is_waited_for() {
        let (mut writer, mut reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut filled = 0;
        while let Ok(count) = writer.write(&[b'a'; 1 << 16]) {
            filled += count;
        }
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let lines = b"a line\n".repeat(1 << 18);
        assert_eq!(write_lines(&mut writer, &lines, &AtomicBool::new(false)), 0);
        drop(writer);
        let all = reading.join().unwrap().unwrap();
        assert!(
            all[filled..] == lines,
            "{} of {} bytes",
            all.len(),
            filled + lines.len()
        );
    }

    #[test]
    fn a_panic_of_a_server_is_one_line_of_its_log() {
        let mut kept = tempfile::tempfile().unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(kept.try_clone().unwrap())
            .with_ansi(false);
        let before = panic::take_hook();
        hand_over().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        let caught = tracing::subscriber::with_default(subscriber, || {
            panic::catch_unwind(|| panic!("the database is\ndamaged"))
        });
        panic::set_hook(before);
        assert!(caught.is_err());
        kept.rewind().unwrap();
        let log = io::read_to_string(kept).unwrap();
        assert_eq!(log.lines().count(), 1, "{log:?}");
        let about = ["ERROR", "a thread panicked", "the database is\\ndamaged", file!()];
        assert!(about.iter().all(|part| log.contains(part)), "{log:?}");
    }

    /// The log of a server.
    struct Broken;

    impl Drop for Broken {
        fn drop(&mut self) {
            panic!("the second cause");
        }
    }

    fn panic_twice() {
        let _broken = Broken;
        panic!("the first cause");
    }

    extern "C" fn panic_at_the_border() {
        panic!("the only cause");
    }

    fn panic_where_nothing_may() {
        panic_at_the_border();
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "it tells its own process from the one that it starts"
    )]
    fn a_panic_that_ends_the_process_is_written_first() {
        const STARTED: &str = "ARAL_TEST_PANICS";
        type Case = (fn(), &'static [&'static str]);
        let cases: [Case; 2] = [
            (panic_twice, &["the first cause", "the second cause", LAST_CAUSES[0]]),
            (panic_where_nothing_may, &["the only cause", LAST_CAUSES[1]]),
        ];
        if let Some(number) = std::env::var_os(STARTED) {
            let (panics, _) = cases[usize::from(number == "1")];
            hand_over().unwrap();
            let layer = tracing_subscriber::fmt::layer().with_writer(|| Stderr).with_ansi(false);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), panics);
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::a_panic_that_ends_the_process_is_written_first");
        for (number, (_, causes)) in cases.iter().enumerate() {
            let ended = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &name, "--nocapture"])
                .env(STARTED, number.to_string())
                .env_remove("RUST_BACKTRACE")
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&ended.stderr);
            assert!(!ended.status.success(), "{told}");
            assert!(causes.iter().all(|cause| told.contains(cause)), "{told}");
        }
    }

    #[test]
    fn a_line_for_which_there_is_no_room_is_lost_and_counted_and_nobody_waits() {
        let lines = Lines::new();
        let half = vec![b'a'; WAITING_BYTES_MAX / 2];
        // Nobody takes anything meanwhile: whoever waited would wait for ever.
        assert_eq!((lines.put(&half), lines.put(&half)), (0, 0));
        assert_eq!((lines.put(b"\n"), lines.put(b"\n")), (1, 1));
        assert!(!lines.end(Duration::ZERO), "much waits");
        assert_eq!(lines.take(), (half.repeat(2), 2));
        assert!(!lines.end(Duration::ZERO), "much is being written");
        assert_eq!(lines.put(b"b\n"), 0, "there is room again");
        assert_eq!(lines.take(), (b"b\n".to_vec(), 0));
    }

    /// The log of a server whose other threads leave no room for a line.
    #[derive(Clone)]
    struct Flooded(Arc<Lines>);

    impl Write for Flooded {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let lines = Arc::clone(&self.0);
            let flood = move || [(), ()].map(|()| lines.put(&vec![b'b'; LINE_BYTES_MAX]));
            std::thread::spawn(flood).join().unwrap();
            self.0.put(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn how_many_lines_were_lost_is_told_also_where_others_leave_no_room() {
        let lines = Arc::new(Lines::new());
        let half = vec![b'a'; LINE_BYTES_MAX];
        assert_eq!((lines.put(&half), lines.put(&half), lines.put(b"lost\n")), (0, 0, 1));
        let (sender, written) = mpsc::channel();
        let log = Flooded(Arc::clone(&lines));
        // It ends with the tests.
        std::thread::spawn(move || {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(move || log.clone())
                .with_ansi(false);
            let pass_on = || lines.pass_on(|bytes| sender.send(bytes.to_vec()).unwrap_or_default());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), pass_on);
        });
        let (first, second) = (written.recv().unwrap(), written.recv().unwrap());
        assert!(first == half.repeat(2), "what had room comes first");
        let told = String::from_utf8(second).unwrap();
        assert!(told.contains("lines of the log were lost") && told.contains("lost=1"));
    }

    #[test]
    fn lines_that_are_written_at_once_are_lost_and_counted_one_by_one() {
        let lines = Lines::new();
        let half = [vec![b'a'; WAITING_BYTES_MAX / 2 - 1], b"\n".to_vec()].concat();
        // The first half takes half of the room. The two short lines leave too little for the second half, and enough for the last line.
        let few = [half.as_slice(), b"one\ntwo\n", half.as_slice(), b"three\n"].concat();
        assert_eq!(lines.put(&few), 1);
        let rest = vec![b'b'; WAITING_BYTES_MAX / 2 - "one\ntwo\nthree\n".len()];
        assert_eq!(lines.put(&rest), 0, "that is all the room");
        for (lost, count) in [("a\nb\nc\n", 3), ("a\nb", 2), ("a", 1), ("", 0)] {
            assert_eq!(lines.put(lost.as_bytes()), count, "{lost:?}");
        }
        let kept = [half.as_slice(), b"one\ntwo\nthree\n", rest.as_slice()].concat();
        assert!(lines.take() == (kept, 7), "they stand in their order");
    }

    #[test]
    fn a_line_that_is_longer_than_all_room_is_cut_off_and_not_lost() {
        let whole = [vec![b'a'; LINE_BYTES_MAX - 1], b"\n".to_vec()].concat();
        // One byte, so that a character of two stands across the end.
        let shifted = format!("b{}\n", "é".repeat(WAITING_BYTES_MAX));
        let ascii = format!("{}\n", "c".repeat(WAITING_BYTES_MAX));
        for (line, kept) in [
            (whole.as_slice(), whole.clone()),
            (shifted.as_bytes(), shifted.as_bytes()[..LINE_BYTES_MAX - 1].to_vec()),
            (ascii.as_bytes(), ascii.as_bytes()[..LINE_BYTES_MAX].to_vec()),
        ] {
            let lines = Lines::new();
            assert_eq!((lines.put(line), lines.put(b"next\n")), (0, 0));
            let end = if kept == line { "" } else { "…\n" };
            let expected = [kept.as_slice(), end.as_bytes(), b"next\n"].concat();
            assert!(lines.take() == (expected, 0), "{:?}", line.first());
        }
    }

    #[test]
    fn lines_are_written_in_their_order_and_the_end_waits_for_them() {
        let lines = Arc::new(Lines::new());
        let (sender, written) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let passing = Arc::clone(&lines);
        // It ends with the tests.
        std::thread::spawn(move || {
            passing.pass_on(|bytes| {
                may_go.recv().unwrap_or_default();
                sender.send(bytes.to_vec()).unwrap_or_default();
            });
        });
        let all: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
        assert!(all.iter().all(|line| lines.put(line.as_bytes()) == 0));
        assert!(!lines.end(Duration::from_millis(1)), "the reader pauses");
        // From now on it does not.
        drop(go);
        assert!(lines.end(Duration::from_secs(60)));
        let written: Vec<Vec<u8>> = written.try_iter().collect();
        assert_eq!(String::from_utf8(written.concat()).unwrap(), all.concat());
    }
}
