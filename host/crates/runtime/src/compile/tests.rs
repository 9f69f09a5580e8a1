//! The compiler, in a child and in this process: what it makes runs, and what is hostile to it is refused or killed.
#![expect(clippy::disallowed_methods, reason = "tests measure time and look at files")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aral_contract::Metering;
use aral_contract::limits::COMPONENT_BYTES_MAX;

use super::{CompileError, CompilerKind};
use crate::admit::{IN_PROCESS_BYTES_MAX, IN_PROCESS_FUNCTION_BYTES_MAX, IN_PROCESS_FUNCTIONS_MAX};
use crate::runtime::{Runtime, RuntimeOptions};
use crate::testing::{child_program, component, run};
use crate::{Allocation, Fault};

/// Within this time whatever ends has ended, on a slow machine too.
const AT_ALL: Duration = Duration::from_secs(60);

fn runtime(compiler: CompilerKind, allocation: Allocation) -> Runtime {
    Runtime::new(RuntimeOptions {
        allocation,
        concurrent_calls_max: 2,
        compiler,
        ..RuntimeOptions::default()
    })
    .unwrap()
}

fn child(args: &[&str], timeout_ms: u64) -> CompilerKind {
    CompilerKind::Child {
        program: child_program(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        timeout_ms,
    }
}

async fn refusal(runtime: &Runtime, bytes: &[u8]) -> CompileError {
    runtime.compile(bytes, Metering::Metered).await.err().unwrap()
}

#[tokio::test]
async fn the_childs_code_fits_every_engine() {
    for allocation in [Allocation::Auto, Allocation::OnDemand] {
        let runtime = runtime(child(&["compile"], 60_000), allocation);
        for metering in [Metering::Metered, Metering::EpochOnly] {
            let compiled = runtime.compile(&component(42, 50), metering).await.unwrap();
            assert_eq!(run(runtime.engine(metering).unwrap(), &compiled).await, 42);
        }
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused_before_anything_compiles_it() {
    // This compiler does not exist: only checks before it can say these.
    let nobody = CompilerKind::child("/nonexistent/compiler".into(), Vec::new());
    for compiler in [nobody, CompilerKind::InProcess] {
        let runtime = runtime(compiler, Allocation::OnDemand);
        let start = Instant::now();
        let mut huge = component(1, 0);
        huge.resize(100_000_000, 0);
        let error = refusal(&runtime, &huge).await;
        assert_eq!(
            error.to_string(),
            format!("the component has 100000000 bytes, and at most {COMPONENT_BYTES_MAX} are taken")
        );
        assert!(start.elapsed() < AT_ALL);

        let module = wat::parse_str("(module)").unwrap();
        let error = refusal(&runtime, &module).await;
        assert!(
            error
                .to_string()
                .starts_with("this is a core module and not a component"),
            "{error}"
        );

        let compiled = runtime
            .engine(Metering::Metered)
            .unwrap()
            .wasmtime()
            .precompile_component(&component(1, 0))
            .unwrap();
        assert!(matches!(refusal(&runtime, &compiled).await, CompileError::Precompiled));

        for rubbish in [&b""[..], b"\0asm", b"hello", b"(component)"] {
            assert!(
                matches!(refusal(&runtime, rubbish).await, CompileError::NotWasm),
                "{rubbish:?}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_is_compiled_for_who_has_waited_long_enough() {
    let nobody = CompilerKind::child("/nonexistent/compiler".into(), Vec::new());
    let runtime = runtime(nobody, Allocation::OnDemand);
    let bytes = component(1, 0);
    let past = tokio::time::Instant::now();
    let error = runtime.compile_by(past, &bytes, Metering::Metered).await.err().unwrap();
    assert!(matches!(error, CompileError::Busy { .. }), "{error}");
    assert!(matches!(refusal(&runtime, &bytes).await, CompileError::Child(_)));
}

#[tokio::test]
async fn what_is_not_valid_is_refused() {
    let whole = component(1, 3);
    let damaged = {
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        damaged
    };
    let threads = wat::parse_str("(component (core module (memory 1 1 shared)))").unwrap();
    let memory64 = wat::parse_str("(component (core module (memory i64 1)))").unwrap();
    let exceptions = wat::parse_str("(component (core module (tag)))").unwrap();
    let tail_calls = wat::parse_str("(component (core module (func $f (return_call $f))))").unwrap();
    let futures = wat::parse_str("(component (type (future u32)))").unwrap();
    // A module that imports a global in a group of one.
    let import = b"\x01\x01m\0\x7f\x01\x01a\x03\x7f\0";
    let module = [b"\0asm\x01\0\0\0\x02\x0b", import.as_slice()].concat();
    let compact = [b"\0asm\x0d\0\x01\0\x01\x15", module.as_slice()].concat();
    for compiler in [child(&["compile"], 60_000), CompilerKind::InProcess] {
        let runtime = runtime(compiler, Allocation::OnDemand);
        for bytes in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &damaged] {
            assert!(matches!(refusal(&runtime, bytes).await, CompileError::Invalid { .. }));
        }
        for bytes in [&threads, &memory64, &exceptions, &tail_calls, &futures, &compact] {
            let error = refusal(&runtime, bytes).await;
            assert!(matches!(error, CompileError::Invalid { .. }), "{error}");
        }
        runtime.compile(&whole, Metering::Metered).await.unwrap();
    }
}

/// Its own assertion does not hold of a type that is imported twice.
#[tokio::test]
async fn what_makes_the_validator_panic_is_refused() {
    let interface = r#"(type $i (instance (type $t (record (field "a" u8))) (export "t" (type (eq $t)))))"#;
    let text = format!(
        r#"(component
            {interface}
            (import "a" (instance $a (type $i)))
            (component $c {interface} (import "a" (instance (type $i))) (import "b" (instance (type $i))))
            (instance (instantiate $c (with "a" (instance $a)) (with "b" (instance $a)))))"#
    );
    let bytes = wat::parse_str(text).unwrap();
    for compiler in [child(&["compile"], 60_000), CompilerKind::InProcess] {
        let runtime = runtime(compiler, Allocation::OnDemand);
        let error = refusal(&runtime, &bytes).await;
        assert!(matches!(error, CompileError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_a_pool_has_no_room_for_is_not_compiled() {
    let made = |module: &str, count: usize| format!("(core instance (instantiate {module}))").repeat(count);
    let twice = "(instance (instantiate $c)) (instance (instantiate $c))";
    let inner = |count: usize| {
        let instances = made("$m", count);
        format!("(component $c (core module $m (memory 1)) {instances}) {twice}")
    };
    let tables = "(table 1 funcref)".repeat(9);
    let pooled = runtime(CompilerKind::InProcess, Allocation::Auto);
    let on_demand = runtime(CompilerKind::InProcess, Allocation::OnDemand);
    for (body, beyond) in [
        (inner(2), None),
        (inner(3), Some("4 memories")),
        // A module of the component around it.
        (
            format!(
                "(core module $m (memory 1)) (component $c (alias outer $all $m (core module $n)) {}) {twice}",
                made("$n", 3)
            ),
            Some("4 memories"),
        ),
        // An export has a number of its own.
        (
            format!(
                r#"(core module $m (memory 1)) (export $e "m" (core module $m)) {}"#,
                made("$e", 5)
            ),
            Some("4 memories"),
        ),
        (
            format!("(core module $m {tables}) {}", made("$m", 2)),
            Some("16 tables"),
        ),
        (
            format!("(core module $m) {}", made("$m", 257)),
            Some("256 instances of core modules"),
        ),
    ] {
        let bytes = wat::parse_str(format!("(component $all {body})")).unwrap();
        assert!(on_demand.compile(&bytes, Metering::Metered).await.is_ok(), "{body}");
        let compiled = pooled.compile(&bytes, Metering::Metered).await;
        match (compiled.err(), beyond) {
            (None, None) => {}
            (Some(CompileError::Refused { message }), Some(beyond)) => {
                assert!(message.contains(&format!("more than {beyond}")), "{message}");
            }
            (found, _) => panic!("{body}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn in_process_only_what_is_small_and_simple() {
    let runtime = runtime(CompilerKind::InProcess, Allocation::OnDemand);
    let with_data = |bytes: usize| {
        wat::parse_str(format!(
            r#"(component (core module (memory 100) (data (i32.const 0) "{}")))"#,
            "a".repeat(bytes)
        ))
        .unwrap()
    };
    let functions =
        |count: usize| wat::parse_str(format!("(component (core module {}))", "(func)".repeat(count))).unwrap();
    let code =
        |bytes: usize| wat::parse_str(format!("(component (core module (func {})))", "nop ".repeat(bytes))).unwrap();
    let what = |error: CompileError| match error {
        CompileError::TooComplex { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(what(refusal(&runtime, &with_data(IN_PROCESS_BYTES_MAX)).await), "bytes");
    let count = usize::try_from(IN_PROCESS_FUNCTIONS_MAX).unwrap();
    assert_eq!(what(refusal(&runtime, &functions(count + 1)).await), "functions");
    let bytes = usize::try_from(IN_PROCESS_FUNCTION_BYTES_MAX).unwrap();
    assert_eq!(what(refusal(&runtime, &code(bytes)).await), "bytes in one function");
    runtime.compile(&code(bytes - 8), Metering::Metered).await.unwrap();
    runtime.compile(&with_data(1 << 20), Metering::Metered).await.unwrap();
}

/// Each component makes the one before twice.
fn doubling(levels: usize, innermost: &str) -> Vec<u8> {
    let mut text = format!("(component $c0 {innermost})");
    for level in 1..=levels {
        let before = level - 1;
        text = format!(
            "{text} (component $c{level} (alias outer $top $c{before} (component $inner))
                (instance (instantiate $inner)) (instance (instantiate $inner)))"
        );
    }
    wat::parse_str(format!("(component $top {text} (instance (instantiate $c{levels})))")).unwrap()
}

/// An instance `$b` in which another one stands `outer` times, which has `inner` types.
fn nested(inner: usize, outer: usize) -> String {
    let types: String = (0..inner).map(|at| format!("(export \"x{at}\" (type $t))")).collect();
    let instances: String = (0..outer)
        .map(|at| format!("(export \"y{at}\" (instance $a))"))
        .collect();
    format!("(type $t u32) (instance $a {types}) (instance $b {instances})")
}

/// So many instances of which each has only this one in it.
fn again(count: usize, instance: &str) -> String {
    format!("(instance (export \"z\" (instance {instance})))").repeat(count)
}

/// Components of few instances and items of which the compiler would copy very many.
fn copying() -> Vec<(Vec<u8>, &'static str)> {
    let named = format!("(component {} {})", nested(900, 1000), again(900, "$b"));
    let given = format!(
        "(component
            (component $c (import \"a\" (instance $a)) {})
            {}
            (instance (instantiate $c (with \"a\" (instance $b)))))",
        again(900, "$a"),
        nested(900, 20)
    );
    let taken: String = (1..=40)
        .map(|level| {
            let before = level - 1;
            format!(
                "(component $c{level} (alias outer $top $c{before} (component $one))
                    (alias outer $top $c{before} (component $two)))"
            )
        })
        .collect();
    let taken = format!("(component $top (component $c0) {taken})");
    [
        (named, "an instance that is named again"),
        (given, "more is given than is asked for"),
        (taken, "components that take others along"),
    ]
    .map(|(text, name)| (wat::parse_str(text).unwrap(), name))
    .into()
}

#[tokio::test]
async fn what_makes_too_many_instances_is_refused_before_anybody_follows_them() {
    for compiler in [child(&["compile"], 60_000), CompilerKind::InProcess] {
        let runtime = runtime(compiler, Allocation::OnDemand);
        let module = "(core module $m) (core instance (instantiate $m))";
        let heavy = "(type (resource (rep i32)))".repeat(1000);
        for (bomb, words) in [
            (doubling(40, module), "more than 10000 instances"),
            (doubling(40, ""), "more than 10000 instances"),
            (doubling(14, ""), "more than 10000 instances"),
            (doubling(11, &heavy), "more than 1000000 items"),
        ] {
            let error = refusal(&runtime, &bomb).await;
            assert!(
                matches!(&error, CompileError::Refused { message } if message.contains(words)),
                "{error}"
            );
        }
        for (bomb, name) in copying() {
            let error = refusal(&runtime, &bomb).await;
            assert!(
                matches!(&error, CompileError::Refused { message } if message.contains("more than 1000000 items")),
                "{name}: {error}"
            );
        }
        // Nobody knows what is given to it.
        let import = "(component (import \"c\" (component $c)) (instance (instantiate $c)))";
        let error = refusal(&runtime, &wat::parse_str(import).unwrap()).await;
        assert!(matches!(error, CompileError::Refused { .. }), "{error}");
        runtime.compile(&doubling(6, module), Metering::Metered).await.unwrap();
        let few = format!("(component {} {})", nested(3, 3), again(3, "$b"));
        let few = wat::parse_str(few).unwrap();
        runtime.compile(&few, Metering::Metered).await.unwrap();
    }
}

#[tokio::test]
async fn a_compiler_that_hangs_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("pid");
    // The jail lets no file grow: the marker stays empty, and its name is proof enough that the child ran.
    // A machine that stands may kill the first one before it runs.
    for wait_ms in [500, 5_000, 50_000] {
        let runtime = runtime(
            child(&["hang", marker.to_str().unwrap()], wait_ms),
            Allocation::OnDemand,
        );
        let error = refusal(&runtime, &component(1, 0)).await;
        assert!(
            matches!(error, CompileError::Timeout { timeout_ms } if timeout_ms == wait_ms),
            "{error}"
        );
        if marker.exists() {
            break;
        }
    }
    assert!(marker.exists());
    assert_no_child_hangs(marker.to_str().unwrap());
}

#[tokio::test]
async fn a_compiler_is_killed_when_its_caller_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("pid");
    let runtime = runtime(
        child(&["hang", marker.to_str().unwrap()], 600_000),
        Allocation::OnDemand,
    );
    let bytes = component(1, 0);
    let mut compiling = Box::pin(runtime.compile(&bytes, Metering::Metered));
    while !marker.exists() {
        assert!(
            tokio::time::timeout(Duration::from_millis(10), &mut compiling)
                .await
                .is_err()
        );
    }
    drop(compiling);
    assert_no_child_hangs(marker.to_str().unwrap());
}

/// No living process has this argument, soon.
fn assert_no_child_hangs(argument: &str) {
    let deadline = Instant::now() + AT_ALL;
    while processes_with(argument) > 0 {
        assert!(Instant::now() < deadline, "the child is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn processes_with(argument: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()))
        .count()
}

#[tokio::test]
async fn a_compiler_that_takes_too_much_memory_dies_alone() {
    let runtime = runtime(child(&["devour"], 60_000), Allocation::OnDemand);
    let error = refusal(&runtime, &component(1, 0)).await;
    assert!(
        matches!(error, CompileError::Killed { signal: libc::SIGABRT }),
        "{error}"
    );
}

#[tokio::test]
async fn code_without_end_is_not_taken() {
    let runtime = runtime(child(&["chatter"], 60_000), Allocation::OnDemand);
    let error = refusal(&runtime, &component(1, 0)).await;
    assert!(matches!(error, CompileError::CodeTooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_program_that_is_no_compiler_is_found_out() {
    for args in [&["no-such-verb"][..], &[]] {
        let runtime = runtime(child(args, 60_000), Allocation::OnDemand);
        let error = refusal(&runtime, &component(1, 0)).await;
        assert!(matches!(error, CompileError::Protocol { .. }), "{error}");
    }
    let runtime = runtime(
        CompilerKind::child("/nonexistent/compiler".into(), Vec::new()),
        Allocation::OnDemand,
    );
    assert!(matches!(
        refusal(&runtime, &component(1, 0)).await,
        CompileError::Child(_)
    ));
}

/// As a package manager does it: the new file takes the place of the one that runs.
#[test]
fn a_host_whose_program_is_replaced_compiles_with_the_one_that_runs() {
    let built = child_program();
    let folder = tempfile::tempdir_in(built.parent().unwrap()).unwrap();
    let [program, other] = ["host", "other"].map(|name| folder.path().join(name));
    for (from, to) in [(built.as_path(), &program), (Path::new("/bin/false"), &other)] {
        // Not copied by this process: a child that another test forks would hold the file open for writing, which then cannot be run.
        assert!(Command::new("/bin/cp").arg(from).arg(to).status().unwrap().success());
    }
    let mut host = Command::new(&program)
        .arg("replaced")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(host.stdout.take().unwrap());
    let mut said = String::new();
    stdout.read_line(&mut said).unwrap();
    assert_eq!(said, ".\n");
    std::fs::rename(&other, &program).unwrap();
    host.stdin.take().unwrap().write_all(b"\n").unwrap();
    said.clear();
    stdout.read_line(&mut said).unwrap();
    assert_eq!(said, "Ok(())\n");
    assert!(host.wait().unwrap().success());
}

/// Wasm small enough to send that takes the real compiler a while: too long for one limit, not for the other.
#[tokio::test]
async fn a_component_that_is_slow_to_compile_ends_with_the_compiler() {
    let slow = component(9, 8_000);
    let hasty = runtime(child(&["compile"], 100), Allocation::OnDemand);
    let result = hasty.compile(&slow, Metering::Metered).await;
    assert!(
        matches!(result, Err(CompileError::Timeout { .. })),
        "{:?}",
        result.err()
    );
    let patient = runtime(child(&["compile"], 120_000), Allocation::OnDemand);
    let compiled = patient.compile(&slow, Metering::Metered).await.unwrap();
    assert_eq!(run(patient.engine(Metering::Metered).unwrap(), &compiled).await, 9);
}

#[test]
fn faults_and_errors_do_not_print_their_sources() {
    let error = CompileError::Child(std::io::Error::other("inner words"));
    assert!(!error.to_string().contains("inner words"));
    assert_eq!(Fault::Wall.to_string(), "`wall_ms` is used up");
}
