//! Runs real programs in the jail.
#![expect(clippy::disallowed_methods, reason = "measures deadlines and looks for processes")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aral_audit::HostCalls;
use aral_contract::{Cut, Grant, GrantParts, TraceContext, TraceId};
use serde_json::json;

use super::*;
use crate::bound::stdio::StandardStreams;
use crate::call::CallRecord;
use crate::testing::{self, Trial, told};

fn limits(exec_ms: u64, exec_output_bytes: u64) -> Limits {
    Limits {
        exec_ms,
        exec_output_bytes,
        ..Limits::default()
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|one| (*one).to_owned()).collect()
}

/// On a host where nothing else runs.
async fn run(program: &str, arguments: &[String], stdin: &[u8], limits: &Limits) -> Result<Output, Error> {
    let tester = "tester".parse().unwrap();
    super::run(&Programs::default(), &tester, program, arguments, stdin, limits).await
}

async fn run_ok(program: &str, arguments: &[&str], stdin: &[u8]) -> Output {
    run(program, &texts(arguments), stdin, &limits(60_000, 1 << 20))
        .await
        .unwrap()
}

#[test]
fn only_the_granted_path_with_the_granted_shape() {
    let scope: ExecScope = serde_json::from_str(
        r#"{"programs":[{"path":"/bin/echo","args":["-n","{word}"]},{"path":"/bin/echo","args":[]}]}"#,
    )
    .unwrap();
    for (program, arguments, expected) in [
        ("/bin/echo", vec!["-n", "hello"], true),
        ("/bin/echo", vec![], true),
        ("/bin/echo", vec!["-n"], false),
        ("/bin/echo", vec!["-n", "a", "b"], false),
        ("/bin/echo", vec!["-n", "$(id)"], false),
        ("/bin/../bin/echo", vec![], false),
        ("echo", vec![], false),
        ("/bin/sh", vec![], false),
    ] {
        assert_eq!(
            is_granted(Some(&scope), program, &texts(&arguments)),
            expected,
            "{program} {arguments:?}"
        );
    }
    assert!(!is_granted(None, "/bin/echo", &[]));
}

#[test]
fn the_line_to_add_is_the_command_itself() {
    let line = line("/bin/echo", &texts(&["a\"b", "c\n"]));
    assert_eq!(
        line,
        r#"[permissions.exec]: programs = [{ path = "/bin/echo", args = ["a\"b", "c\n"] }]"#
    );
}

#[test]
fn no_more_of_a_long_command_is_written_than_is_shown() {
    let mut left = 5;
    assert_eq!((short("ab", &mut left), left), ("ab", 3));
    assert_eq!((short("cö\u{1}d", &mut left), left), ("cö", 0));
    assert_eq!((short("e", &mut left), left), ("", 0));
    let long = "\u{1}".repeat(8 << 20);
    for (program, arguments) in [
        (long.as_str(), vec![String::new()]),
        ("/x", vec![long.clone()]),
        ("/x", vec![String::new(); 1 << 20]),
    ] {
        // Each byte takes five at most.
        let whole = written(program, &arguments);
        assert!(whole.len() < 6 * SHOWN_BYTES_MAX, "{} bytes were written", whole.len());
        let line = line(program, &arguments);
        assert!(line.starts_with("[permissions.exec]: programs = [{ path = "), "{line}");
        assert!(line.ends_with('…'), "{line}");
    }
}

#[tokio::test]
async fn arguments_pass_as_they_stand_and_output_comes_back() {
    let output = run_ok("/bin/echo", &["$HOME", "`id`", ";", "a b"], b"").await;
    assert_eq!(output.stdout, b"$HOME `id` ; a b\n");
    assert!(matches!(output.status, Status::Exited(0)) && !output.truncated);
    let output = run_ok("/bin/cat", &[], b"from the guest").await;
    assert_eq!(output.stdout, b"from the guest");
}

#[tokio::test]
async fn the_environment_is_empty_and_only_the_standard_streams_are_open() {
    assert_eq!(run_ok("/usr/bin/env", &[], b"").await.stdout, b"");
    let output = run_ok("/bin/sh", &["-c", "echo /proc/self/fd/*; pwd; ulimit -c"], b"").await;
    let text = String::from_utf8(output.stdout).unwrap();
    // The shell's own handle on the folder it lists may appear as 3.
    assert!(!text.contains("/fd/4") && text.ends_with("/\n0\n"), "{text}");
}

#[tokio::test]
async fn a_program_has_what_is_documented_and_no_more() {
    let document = include_str!("../../../../../../docs/defaults.md");
    let row = format!(
        "\n| `MEMORY_BYTES_MAX`, `OPEN_FILES_MAX`, `FILE_BYTES_MAX`, `STDIN_BYTES_MAX` of programs | {MEMORY_BYTES_MAX}, {OPEN_FILES_MAX}, {FILE_BYTES_MAX}, {STDIN_BYTES_MAX} | "
    );
    assert!(document.contains(&row), "docs/defaults.md has no line{row}");
    let output = run_ok("/bin/cat", &["/proc/self/limits"], b"").await;
    let limits = String::from_utf8(output.stdout).unwrap();
    for (name, value) in [
        ("Max address space", MEMORY_BYTES_MAX),
        ("Max open files", OPEN_FILES_MAX),
        ("Max file size", FILE_BYTES_MAX),
        ("Max cpu time", 61),
    ] {
        let held = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let held = held.split_whitespace().next().unwrap();
        assert_eq!(held, value.to_string(), "{name}");
    }
}

#[tokio::test]
async fn a_program_that_the_manifest_asks_for_is_denied_with_whoever_gives_less() {
    let asked = json!({ "exec": { "programs": [{ "path": "/bin/echo", "args": ["{word}"] }] } });
    let cut = Cut {
        policy: serde_json::from_value(asked).unwrap(),
        ..Cut::default()
    };
    let parts = testing::grant_parts(json!({}), limits(60_000, 1000), &[]);
    let Trial { call, .. } = Trial::new(Arc::new(Grant::new(GrantParts { cut, ..parts })));
    let mut state = State::new(call, StandardStreams::Log);
    for (argument, words) in [("a", "the policy gives less"), ("a b", "add to capability.toml")] {
        let ran = Host::run(&mut state, "/bin/echo".to_owned(), texts(&[argument]), Vec::new()).await;
        let (kind, text) = told(ran.unwrap());
        assert!(kind == "denied" && text.contains(words), "{argument}: {text}");
    }
}

#[tokio::test]
async fn standard_input_has_so_many_bytes_and_no_more() {
    let permissions = json!({ "exec": { "programs": [{ "path": "/usr/bin/wc", "args": ["-c"] }] } });
    let Trial { call, kept } = Trial::new(testing::grant(permissions, limits(60_000, 1000), &[]));
    let (list, context) = (HostCalls::default(), TraceContext::begin(TraceId::from_bytes([7; 16])));
    let call = CallRecord::listing(Arc::clone(&call.frame), context, Some(list.clone()), None, None);
    let mut state = State::new(call, StandardStreams::Log);
    for (bytes, fits) in [(STDIN_BYTES_MAX, true), (STDIN_BYTES_MAX + 1, false)] {
        let program = "/usr/bin/wc".to_owned();
        let ran = Host::run(&mut state, program, texts(&["-c"]), vec![0; bytes]).await;
        let counted = ran.unwrap().ok().map(|output| output.stdout);
        assert_eq!(counted, fits.then(|| format!("{bytes}\n").into_bytes()));
    }
    // Each use is on record, also the one that is refused.
    let used = |reason| (Permission::Exec, "/usr/bin/wc".to_owned(), reason);
    let refused = format!("standard input has at most {STDIN_BYTES_MAX} bytes");
    assert_eq!(kept.host_calls(), [used(None), used(Some(refused))]);
    assert_eq!(list.list().count(), 2);
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    assert!(matches!(
        run_ok("/bin/sh", &["-c", "exit 7"], b"").await.status,
        Status::Exited(7)
    ));
    assert!(matches!(
        run_ok("/bin/sh", &["-c", "kill -9 $$"], b"").await.status,
        Status::Signalled(9)
    ));
}

#[tokio::test]
async fn output_over_the_limit_is_cut_and_the_program_still_ends() {
    let script = texts(&["-c", "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 3"]);
    let output = run("/bin/sh", &script, b"", &limits(60_000, 1000)).await.unwrap();
    assert!(output.truncated && matches!(output.status, Status::Exited(3)));
    assert_eq!(output.stdout.len() + output.stderr.len(), 1000);
}

fn is_running(marker: &str) -> bool {
    let listed = std::fs::read_dir("/proc").unwrap().flatten();
    listed
        .map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default())
        .any(|line| String::from_utf8_lossy(&line).split('\0').any(|word| word == marker))
}

/// The programs of these tests sleep for twice as long. Whatever takes less was not waited for, however slow the machine is.
const HALF_OF_ITS_TIME: Duration = Duration::from_secs(30);

/// No process has this argument any more, soon after it was killed and long before it would have ended by itself.
async fn assert_gone(marker: &str, started: Instant) {
    while is_running(marker) {
        assert!(started.elapsed() < HALF_OF_ITS_TIME, "a child was left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_whole_group_dies_at_the_deadline() {
    let started = Instant::now();
    let script = texts(&["-c", "sleep 61.0625 & sleep 61.0625"]);
    let error = run("/bin/sh", &script, b"", &limits(300, 1000)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Limit(text) if text.contains("exec_ms")),
        "{error:?}"
    );
    assert!(started.elapsed() < HALF_OF_ITS_TIME);
    assert_gone("61.0625", started).await;
}

/// Of a call that may run the shell with these arguments.
fn granted(arguments: &[&str], limits: Limits) -> State {
    let permissions = json!({ "exec": { "programs": [{ "path": "/bin/sh", "args": arguments }] } });
    let Trial { call, .. } = Trial::new(testing::grant(permissions, limits, &[]));
    State::new(call, StandardStreams::Log)
}

/// Places for programs that `tester` could have now.
fn places_left(programs: &Programs) -> usize {
    programs.0.left(&"tester".parse().unwrap()).0
}

#[tokio::test]
async fn the_group_dies_at_the_deadline_although_its_guest_stands() {
    let started = Instant::now();
    let script = ["-c", "sleep 65.0625 & sleep 65.0625"];
    let mut state = granted(&script, limits(300, 1000));
    let programs = state.call.frame.services.programs.clone();
    let all = places_left(&programs);
    let mut call = pin!(Host::run(&mut state, "/bin/sh".to_owned(), texts(&script), Vec::new()));
    // From here on the guest is asked for nothing.
    assert!(futures::poll!(call.as_mut()).is_pending());
    tokio::task::yield_now().await;
    assert_eq!(places_left(&programs), all - 1, "it runs");
    while places_left(&programs) < all {
        assert!(started.elapsed() < HALF_OF_ITS_TIME, "nobody attends it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_gone("65.0625", started).await;
    let (kind, text) = told(call.await.unwrap());
    assert!(kind == "limit" && text.contains("exec_ms"), "{text}");
}

#[tokio::test]
async fn what_a_program_writes_is_read_although_its_guest_stands() {
    let started = Instant::now();
    // More than a pipe holds.
    let script = ["-c", "head -c 300000 /dev/zero"];
    let mut state = granted(&script, limits(60_000, 1 << 20));
    let programs = state.call.frame.services.programs.clone();
    let all = places_left(&programs);
    let mut call = pin!(Host::run(&mut state, "/bin/sh".to_owned(), texts(&script), Vec::new()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    tokio::task::yield_now().await;
    while places_left(&programs) < all {
        assert!(started.elapsed() < HALF_OF_ITS_TIME, "nobody reads it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(call.await.unwrap().unwrap().stdout.len(), 300_000);
}

#[tokio::test]
async fn the_group_dies_when_the_call_is_dropped() {
    let started = Instant::now();
    let script = ["-c", "sleep 62.0625 & sleep 62.0625"];
    let mut state = granted(&script, limits(60_000, 1000));
    let call = Host::run(&mut state, "/bin/sh".to_owned(), texts(&script), Vec::new());
    assert!(tokio::time::timeout(Duration::from_millis(300), call).await.is_err());
    assert_gone("62.0625", started).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_dies_with_it() {
    let started = Instant::now();
    let output = run_ok("/bin/sh", &["-c", "sleep 63.0625 & echo done"], b"").await;
    assert_eq!(output.stdout, b"done\n");
    assert!(!output.truncated, "all of it was read");
    assert!(
        started.elapsed() < HALF_OF_ITS_TIME,
        "the child in the background held the pipe open"
    );
    assert_gone("63.0625", started).await;
}

/// A script that ends once another program is in a session of its own, where it keeps all three pipes, and what names that program.
fn leaving(folder: &Path) -> (String, PathBuf) {
    let file = folder.join("number");
    let script = format!(
        "exec 3<&0; setsid sh -c 'echo $$ > {0}; exec sleep 64.0625' <&3 & until [ -s {0} ]; do sleep 0.01; done; echo done",
        file.display()
    );
    (script, file)
}

/// Kills that program, which is still there as it was not in the group.
fn kill_left(file: &Path) {
    let number = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let left = rustix::process::kill_process(Pid::from_raw(number).unwrap(), rustix::process::Signal::KILL);
    assert!(left.is_ok(), "it was in the group");
}

#[tokio::test]
async fn who_leaves_the_group_with_the_pipes_open_holds_back_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (script, file) = leaving(folder.path());
    let input = vec![0; 1 << 20];
    let ended = run("/bin/sh", &texts(&["-c", &script]), &input, &limits(60_000, 1000)).await;
    kill_left(&file);
    let output = ended.unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(matches!(output.status, Status::Exited(0)));
    assert!(output.truncated, "it may still write");
}

/// No time passes while the program runs: only what is waited for after its end counts.
#[tokio::test(start_paused = true)]
async fn pipes_that_stay_open_are_waited_for_a_while_and_not_beyond_the_deadline() {
    let now = tokio::time::Instant::now();
    let hour = Duration::from_secs(3600);
    for (until, expected) in [(now, Duration::ZERO), (now + hour, REST)] {
        let folder = tempfile::tempdir().unwrap();
        let (script, file) = leaving(folder.path());
        let jail = JailLimits {
            memory_bytes: MEMORY_BYTES_MAX,
            cpu_seconds: 60,
            open_files: OPEN_FILES_MAX,
            file_bytes: FILE_BYTES_MAX,
        };
        let mut command = jailed_command(Path::new("/bin/sh"), jail);
        command.arg("-c").arg(&script);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (group, mut child) = PROGRAMS.spawn_group(command).await.unwrap();
        let before = tokio::time::Instant::now();
        let ended = attend(&mut child, group, b"", 1000, until).await;
        let waited = before.elapsed();
        kill_left(&file);
        let output = ended.unwrap();
        assert_eq!(output.stdout, b"done\n");
        assert!(matches!(output.status, Status::Exited(0)));
        assert!(
            waited >= expected && waited < expected + Duration::from_millis(10),
            "{waited:?}"
        );
    }
}

#[tokio::test]
async fn only_so_many_programs_run_at_once_and_a_share_of_them_for_one_persona() {
    let programs = Programs::default();
    let (greedy, other) = ("greedy".parse().unwrap(), "other".parse().unwrap());
    let places: Vec<_> = std::iter::from_fn(|| programs.0.take_now(&greedy)).take(100).collect();
    assert_eq!(places.len(), PROGRAMS_AT_ONCE_MAX / PROGRAMS_SHARE);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made");
    let script = texts(&["-c", &format!("echo > {}", file.display())]);
    let error = super::run(&programs, &greedy, "/bin/sh", &script, b"", &limits(50, 1000))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Limit(text) if text.contains("other programs run")),
        "{error:?}"
    );
    assert!(!file.exists(), "it was started");
    let ran = super::run(&programs, &other, "/bin/sh", &script, b"", &limits(60_000, 1000)).await;
    assert!(ran.is_ok() && file.exists());
    // A place is given back, however a program ended.
    drop(places);
    for program in ["/bin/true", "/nonexistent/program"] {
        let _ended = super::run(&programs, &greedy, program, &[], b"", &limits(60_000, 1000)).await;
    }
    let places = std::iter::from_fn(|| programs.0.take_now(&greedy)).take(100);
    assert_eq!(places.collect::<Vec<_>>().len(), PROGRAMS_AT_ONCE_MAX / PROGRAMS_SHARE);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_unavailable() {
    // Also where the limit is none.
    let error = run("/nonexistent/program", &[], b"", &limits(u64::MAX, 1000))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)));
}
