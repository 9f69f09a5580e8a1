//! Invocations of small guests through the whole of this layer.

mod guests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_contract::{Blame, EventKind, GrantParts, Limits, TraceId};
use aral_runtime::{Allocation, RuntimeOptions};
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::*;
use crate::functions::log::LOG_LINE_COST_MIN;
use crate::manifest::{self, ManifestBody};
use crate::registry::Registry;
use crate::testing::{self, Kept, entry};

struct Fixture {
    runtime: Runtime,
    kept: Arc<Kept>,
    shape: Shape,
    permissions: Value,
    limits: Limits,
    input_schema: Value,
    output_schema: Value,
    ungranted: Ungranted,
    roots: Roots,
}

impl Fixture {
    fn new(shape: Shape) -> Self {
        let options = RuntimeOptions {
            allocation: Allocation::OnDemand,
            ..RuntimeOptions::default()
        };
        Self {
            runtime: Runtime::new(options).unwrap(),
            kept: Arc::default(),
            shape,
            permissions: json!({}),
            limits: Limits::default(),
            input_schema: json!({}),
            output_schema: json!({}),
            ungranted: Ungranted::Refuse,
            roots: Roots::default(),
        }
    }

    fn tool() -> Self {
        Self::new(Shape::Tool)
    }

    fn program() -> Self {
        Self::new(Shape::Command)
    }

    fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn services(&self) -> Services {
        Services {
            roots: self.roots.clone(),
            ..testing::services(Arc::clone(&self.kept) as Arc<dyn AuditSink>)
        }
    }

    async fn bind(&self, component: &[u8]) -> Result<Bound, Failure> {
        let grant = testing::grant(self.permissions.clone(), self.limits.clone(), &[]);
        let component = self.runtime.compile(component, grant.metering).await.unwrap();
        let schemas = Arc::new(Schemas::compile(&self.input_schema, &self.output_schema)?);
        let services = Arc::new(self.services());
        let mounts = filesystem::mounts(&grant, &services.roots, &services.file_work, self.ungranted).await?;
        let frame = Frame {
            grant,
            services,
            mounts,
            ungranted: self.ungranted,
        };
        bind_component(&self.runtime, &component, self.shape, schemas, frame)
    }

    async fn run(&self, component: &[u8], input: &str) -> Completion {
        invoke(&self.bind(component).await.unwrap(), input).await
    }

    /// The code that a guest's call ends with; the same guest must have run before it ended.
    async fn code(&self, body: &str) -> Code {
        let completion = self.run(&guests::tool("", "", body), "1").await;
        completion.result.unwrap_err().code
    }
}

async fn invoke(bound: &Bound, input: &str) -> Completion {
    watched(bound, input).await.0
}

/// With whether it was told that the guest runs.
async fn watched(bound: &Bound, input: &str) -> (Completion, bool) {
    let told = Arc::new(AtomicBool::new(false));
    let teller = Arc::clone(&told);
    let running = Running::new(move || teller.store(true, Ordering::Relaxed));
    let completion = bound
        .invoke(Call {
            context: &TraceContext::begin(TraceId::from_bytes([9; 16])),
            input: input.as_bytes(),
            host_calls: None,
            running: Some(&running),
            until: None,
        })
        .await;
    let told = told.load(Ordering::Relaxed);
    assert_eq!(completion.ran, told);
    (completion, told)
}

const ECHO: &str = "(call $ok (local.get $in) (local.get $len))";
const LOG: &str = r#"(import "aral:capability/log@1.0.0" "log" (func $log (param i32 i32 i32)))"#;
/// Reading a record, of which there are none here: it is on record at once, and nobody waits for it.
const READ: &str = r#"(import "aral:capability/memory-read@1.0.0" "get" (func $get (param i32 i32 i32 i32 i32)))"#;
/// Reads the record `note` in the namespace `note`, of which the text is at 1024.
const READS: &str = "(call $get (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 640))";

#[tokio::test]
async fn a_tool_answers_and_is_accounted_for() {
    let completion = Fixture::tool()
        .run(&guests::tool("", "", ECHO), " {\"a\": [1, 2]} ")
        .await;
    assert_eq!(completion.result.as_deref(), Ok("{\"a\":[1,2]}"));
    let usage = completion.usage;
    assert!(usage.fuel.is_some_and(|fuel| fuel > 0) && usage.wall_us > 0);
    assert_eq!(
        (usage.input_bytes, usage.output_bytes, usage.memory_bytes_peak),
        (15, 11, 2 << 16)
    );
}

/// A capability that a manifest names.
fn admitted(component: &[u8]) -> Arc<Capability> {
    let at = |text: &str| text.parse().unwrap();
    let header = manifest::header(1, at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    let body = ManifestBody::new(vec![entry(component, json!({}))]).unwrap();
    let document = manifest::unsigned(&header, &body).unwrap().to_string();
    let manifest = manifest::dangerous_accept_unsigned(document.as_bytes(), at("2026-06-01T00:00:00Z")).unwrap();
    let mut admitted = Registry::default()
        .admit(&manifest, &|_| Ok(component.to_vec()))
        .unwrap();
    let (capability, _) = admitted.remove(0);
    capability
}

#[test]
fn folders_are_opened_in_a_thread_that_may_block() {
    testing::one_thread().block_on(async {
        let fixture = Fixture::tool();
        let capability = admitted(&guests::tool("", "", ECHO));
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().to_str().unwrap();
        let permissions = json!({ "file:read": { "paths": [{ "guest": "/data", "host": host }] } });
        let grant = Arc::new(Grant::new(GrantParts {
            component: capability.entry.component,
            ..testing::grant_parts(permissions, Limits::default(), &[])
        }));
        let roots = Roots {
            read: vec![host.parse().unwrap()],
            write: Vec::new(),
        };
        let services = Arc::new(Services {
            roots,
            ..fixture.services()
        });
        // To compile takes that thread, too.
        let compiled = capability.component(&fixture.runtime, grant.metering, &*services.clock);
        compiled.await.unwrap();
        // The disk does not answer.
        let (disk, slow) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || slow.recv().is_err());
        let bound = bind(&fixture.runtime, &capability, grant, services, Ungranted::Refuse);
        let mut bound = pin!(bound);
        assert!(bound.as_mut().now_or_never().is_none());
        drop(disk);
        assert!(held.await.unwrap());
        assert!(bound.await.is_ok());
    });
}

impl Fixture {
    /// May write one file into this folder.
    fn writes_into(folder: &tempfile::TempDir) -> Self {
        let host = folder.path().to_str().unwrap();
        let scope = json!([{ "guest": "/out", "host": host, "bytes_max": 10, "files_max": 1 }]);
        Self {
            permissions: json!({ "file:write": { "paths": scope }, "memory:read": { "namespaces": ["note"] } }),
            roots: Roots {
                read: Vec::new(),
                write: vec![host.parse().unwrap()],
            },
            ..Self::tool()
        }
    }
}

/// A tool that makes `note` in its folder, does something with the handle, which is at 624, reads a record, and answers with 1.
fn makes_a_file(then: &str) -> Vec<u8> {
    makes_a_file_and_answers(then, "(call $ok (i32.const 1028) (i32.const 1))")
}

/// The same with another answer.
fn makes_a_file_and_answers(then: &str, answer: &str) -> Vec<u8> {
    let imports = format!(
        r#"{READ}
        (import "wasi:filesystem/preopens@0.2.12" "get-directories" (func $folders (param i32)))
        (import "wasi:filesystem/types@0.2.12" "[method]descriptor.open-at" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.12" "[resource-drop]descriptor" (func $close (param i32)))"#
    );
    let body = format!(
        "(call $folders (i32.const 600))
         (call $open (i32.load (i32.load (i32.const 600))) (i32.const 0) (i32.const 1024) (i32.const 4)
            (i32.const 1) (i32.const 2) (i32.const 620))
         (if (i32.load8_u (i32.const 620)) (then (unreachable)))
         {then}
         {READS}
         {answer}"
    );
    guests::tool(&imports, r#"(data (i32.const 1024) "note1")"#, &body)
}

const CLOSES: &str = "(call $close (i32.load (i32.const 624)))";

/// Files that this process has open below a folder.
#[expect(clippy::disallowed_methods, reason = "asks the system what is open")]
fn open_below(folder: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
    let handles = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = handles.filter_map(|handle| std::fs::read_link(handle.unwrap().path()).ok());
    open.filter(|path| path.starts_with(folder.path()) && path != folder.path())
        .collect()
}

#[tokio::test]
async fn what_a_guest_had_open_is_closed_before_anybody_has_its_answer() {
    for (then, ended) in [
        (CLOSES, Ok("1")),
        ("", Ok("1")),
        ("(unreachable)", Err(Code::GuestTrap)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let bound = Fixture::writes_into(&folder).bind(&makes_a_file(then)).await.unwrap();
        let completion = invoke(&bound, "1").await;
        // At once: nothing that is left to do in the background can have been done.
        let open = open_below(&folder);
        let result = completion.result.as_deref().map_err(|failure| failure.code);
        assert_eq!((result, open), (ended, Vec::new()), "{then}");
    }
}

/// Goes on with the call of a tool that makes a file and closes it until it has read its record. From then on the disk answers nothing
/// before the sender is dropped.
async fn until_it_has_read(
    kept: &Kept,
    mut call: std::pin::Pin<&mut impl Future<Output = Completion>>,
) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<bool>) {
    let slow_disk = || {
        let (disk, slow) = std::sync::mpsc::channel::<()>();
        (disk, tokio::task::spawn_blocking(move || slow.recv().is_err()))
    };
    // The disk does not answer before the guest has asked, and once the file is there it answers nothing more.
    let (opens, opened) = slow_disk();
    while kept.host_calls().is_empty() {
        assert!(futures::poll!(call.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let closes = slow_disk();
    drop(opens);
    assert!(opened.await.unwrap());
    while kept.accesses().is_empty() {
        assert!(futures::poll!(call.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    closes
}

#[test]
fn an_answer_that_is_there_is_not_lost_to_a_file_that_cannot_be_closed() {
    testing::one_thread().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Fixture::writes_into(&folder).limits(|limits| limits.wall_ms = 1_000);
        let bound = fixture.bind(&makes_a_file(CLOSES)).await.unwrap();
        tokio::time::pause();
        let mut call = pin!(invoke(&bound, "1"));
        let (closes, closed) = until_it_has_read(&fixture.kept, call.as_mut()).await;
        // A timer is right to a millisecond.
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert_eq!(call.await.result.as_deref(), Ok("1"));
        drop(closes);
        assert!(closed.await.unwrap());
    });
}

/// Answers with 1 behind so many spaces that nobody reads it in passing.
const ANSWERS_AT_LENGTH: &str = "(memory.fill (i32.const 40000) (i32.const 32) (i32.const 65600))
    (i32.store8 (i32.const 105599) (i32.const 49))
    (call $ok (i32.const 40000) (i32.const 65600))";

#[test]
fn a_long_answer_is_not_lost_to_one_either() {
    testing::one_thread().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Fixture::writes_into(&folder).limits(|limits| limits.wall_ms = 1_000);
        let tool = makes_a_file_and_answers(CLOSES, ANSWERS_AT_LENGTH);
        let bound = fixture.bind(&tool).await.unwrap();
        tokio::time::pause();
        let mut call = pin!(invoke(&bound, "1"));
        let (closes, closed) = until_it_has_read(&fixture.kept, call.as_mut()).await;
        // Twice the time of the guest: it has answered when the first is over, and its answer waits for a thread.
        for _ in 0..2 {
            tokio::time::advance(Duration::from_millis(1_001)).await;
            assert!(futures::poll!(call.as_mut()).is_pending());
        }
        tokio::time::resume();
        drop(closes);
        assert!(closed.await.unwrap());
        assert_eq!(call.await.result.as_deref(), Ok("1"));
    });
}

#[tokio::test]
async fn all_who_call_a_capability_share_its_schemas() {
    let fixture = Fixture::tool();
    let capability = admitted(&guests::tool("", "", ECHO));
    let services = Arc::new(fixture.services());
    let bind_for = async |persona: &str| {
        let grant = Arc::new(Grant::new(GrantParts {
            component: capability.entry.component,
            persona: persona.parse().unwrap(),
            ..testing::grant_parts(json!({}), Limits::default(), &[])
        }));
        bind(
            &fixture.runtime,
            &capability,
            grant,
            Arc::clone(&services),
            Ungranted::Refuse,
        )
        .await
        .unwrap()
    };
    let (one, other) = (bind_for("one").await, bind_for("other").await);
    assert!(Arc::ptr_eq(&one.schemas, &other.schemas));
}

#[tokio::test]
async fn schemas_hold_on_both_sides() {
    let mut fixture = Fixture::tool();
    fixture.input_schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    fixture.output_schema = json!({ "required": ["n"] });
    let bound = fixture.bind(&guests::tool("", "", ECHO)).await.unwrap();
    assert_eq!(invoke(&bound, "{\"n\":1}").await.result.as_deref(), Ok("{\"n\":1}"));
    let failure = invoke(&bound, "{\"n\":1.5}").await.result.unwrap_err();
    assert_eq!(
        (failure.code, failure.trace),
        (Code::InputInvalid, Some(TraceId::from_bytes([9; 16])))
    );
    assert!(failure.message.contains("at `/n`"), "{failure}");
    let completion = invoke(&bound, "{\"n\":1.5}").await;
    assert_eq!(completion.usage.fuel, None, "the guest did not run");
    assert_eq!(invoke(&bound, "{}").await.result.unwrap_err().code, Code::OutputInvalid);
    assert_eq!(
        invoke(&bound, "{\"n\":1,\"n\":2}").await.result.unwrap_err().code,
        Code::InputInvalid
    );
}

#[tokio::test]
async fn nothing_of_one_call_is_visible_in_the_next() {
    let body = "(i32.store8 (i32.const 1025) (i32.add (i32.load8_u (i32.const 1025)) (i32.const 1)))
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 1024) (i32.add (global.get $calls) (i32.const 48)))
        (call $ok (i32.const 1024) (i32.const 2))";
    let fixture = Fixture::tool();
    let bound = fixture
        .bind(&guests::tool("", "(data (i32.const 1025) \"0\")", body))
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(invoke(&bound, "1").await.result.as_deref(), Ok("11"));
    }
}

#[tokio::test]
async fn each_error_of_a_tool_has_its_code() {
    for (case, code) in [
        (0, Code::InputInvalid),
        (1, Code::PermissionDenied),
        (2, Code::Unavailable),
        (3, Code::LimitHostCall),
        (4, Code::GuestError),
    ] {
        let body = format!("(call $error (i32.const {case}) (i32.const 1024) (i32.const 4))");
        let guest = guests::tool("", r#"(data (i32.const 1024) "no\1b!")"#, &body);
        let failure = Fixture::tool().run(&guest, "1").await.result.unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (code, "no\\u{1b}!"));
    }
}

#[tokio::test]
async fn what_stops_a_guest_is_told_apart() {
    let endless = "(loop $again (br $again)) (i32.const 0)";
    assert_eq!(Fixture::tool().code("unreachable").await, Code::GuestTrap);
    assert_eq!(Fixture::tool().code("(i32.load (i32.const -1))").await, Code::GuestTrap);
    assert_eq!(
        Fixture::tool().code("(call $recurse (i32.const 1))").await,
        Code::LimitStack
    );
    assert_eq!(
        Fixture::tool()
            .limits(|limits| limits.fuel = 100_000)
            .code(endless)
            .await,
        Code::LimitFuel
    );
    let compute = Fixture::tool().limits(|limits| (limits.fuel, limits.compute_ms) = (u64::MAX, 50));
    assert_eq!(compute.code(endless).await, Code::LimitCompute);
    let wall = Fixture::tool().limits(|limits| (limits.fuel, limits.wall_ms) = (u64::MAX, 100));
    assert_eq!(wall.code(endless).await, Code::LimitWall);
    let memory = "(loop $again (drop (memory.grow (i32.const 16))) (br $again)) (i32.const 0)";
    assert_eq!(Fixture::tool().code(memory).await, Code::LimitMemory);
    let table = "(drop (table.grow $table (ref.null func) (i32.const 100000))) (i32.const 0)";
    assert_eq!(Fixture::tool().code(table).await, Code::LimitTable);
    assert_eq!(
        Fixture::tool().limits(|limits| limits.instances = 0).code(ECHO).await,
        Code::LimitInstances
    );
}

#[tokio::test]
async fn that_a_guest_runs_is_told_of_those_that_do() {
    for (body, input, change, code, ran) in [
        (ECHO, "1", None, None, true),
        ("unreachable", "1", None, Some(Code::GuestTrap), true),
        (ECHO, "{", None, Some(Code::InputInvalid), false),
        // Its memory is there and counted before the table is refused.
        (ECHO, "1", Some(0), Some(Code::LimitTable), false),
    ] {
        let fixture = Fixture::tool().limits(|limits| {
            limits.table_elements = change.unwrap_or(limits.table_elements);
        });
        let bound = fixture.bind(&guests::tool("", "", body)).await.unwrap();
        let (completion, told) = watched(&bound, input).await;
        assert_eq!(completion.result.err().map(|failure| failure.code), code);
        assert_eq!(told, ran, "{code:?}");
        assert_eq!(completion.usage.memory_bytes_peak > 0, code != Some(Code::InputInvalid));
    }
    let program = guests::program("1", "(call $exit (i32.const 1)) (i32.const 0)");
    let bound = Fixture::program().bind(&program).await.unwrap();
    let (completion, told) = watched(&bound, "1").await;
    assert!(completion.result.is_err() && told);
}

#[tokio::test]
async fn answers_are_bounded_and_must_be_json() {
    let long = "(memory.fill (i32.const 1024) (i32.const 32) (i32.const 1000)) (i32.store8 (i32.const 1024) (i32.const 49)) (call $ok (i32.const 1024) (i32.const 1000))";
    assert_eq!(
        Fixture::tool()
            .limits(|limits| limits.output_bytes = 999)
            .code(long)
            .await,
        Code::OutputTooLarge
    );
    let enough = Fixture::tool().limits(|limits| limits.output_bytes = 1000);
    assert!(enough.run(&guests::tool("", "", long), "1").await.result.is_ok());
    let giant = "(drop (memory.grow (i32.const 400))) (call $ok (i32.const 0) (i32.const 20000000))";
    assert_eq!(Fixture::tool().code(giant).await, Code::LimitResource);
    assert_eq!(
        Fixture::tool().code("(call $ok (i32.const 900) (i32.const 5))").await,
        Code::OutputInvalid
    );
    assert_eq!(
        Fixture::tool().limits(|limits| limits.input_bytes = 0).code(ECHO).await,
        Code::InputTooLarge
    );
}

#[tokio::test]
async fn logging_is_bounded_and_cleaned() {
    let data = r#"(data (i32.const 1024) "a\0ab")"#;
    let body = "(local $n i32)
        (loop $again
            (call $log (i32.const 2) (i32.const 1024) (i32.const 3))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 10000))))
        (call $ok (local.get $in) (local.get $len))";
    let fixture = Fixture::tool().limits(|limits| limits.log_bytes = 3 * LOG_LINE_COST_MIN);
    let completion = fixture.run(&guests::tool(LOG, data, body), "1").await;
    assert!(completion.result.is_ok());
    assert_eq!(fixture.kept.lines(), ["a\\nb", "a\\nb", "a\\nb"]);
    assert_eq!(
        (completion.usage.log_bytes, completion.usage.log_bytes_dropped),
        (3 * LOG_LINE_COST_MIN, 9997 * LOG_LINE_COST_MIN)
    );
}

/// A tool that reads a record and never ends.
fn reads_and_loops() -> Vec<u8> {
    let body = format!("{READS} (loop $again (br $again)) (i32.const 0)");
    guests::tool(READ, r#"(data (i32.const 1024) "note")"#, &body)
}

/// A tool that logs a line, computes for some turns, and answers.
fn logs_and_computes() -> Vec<u8> {
    let body = "(local $n i32)
        (call $log (i32.const 2) (i32.const 1024) (i32.const 4))
        (loop $again
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 5000000))))
        (call $ok (local.get $in) (local.get $len))";
    guests::tool(LOG, r#"(data (i32.const 1024) "line")"#, body)
}

/// What may read records, and has time.
fn patient() -> Fixture {
    let fixture = Fixture {
        permissions: json!({ "memory:read": { "namespaces": ["note"] } }),
        ..Fixture::tool()
    };
    fixture.limits(|limits| {
        (limits.fuel, limits.compute_ms, limits.wall_ms) = (u64::MAX, 60_000, 10_000);
    })
}

#[tokio::test]
async fn a_guest_that_stands_for_the_log_has_not_used_up_its_time() {
    let fixture = patient();
    let bound = fixture.bind(&reads_and_loops()).await.unwrap();
    tokio::time::pause();
    fixture.kept.1.store(true, Ordering::Relaxed);
    let failure = invoke(&bound, "1").await.result.unwrap_err();
    assert_eq!(failure.code, Code::AuditUnavailable);
    for (stands_ms, code) in [(1_000, Code::LimitWall), (9_000, Code::AuditUnavailable)] {
        fixture.kept.1.store(true, Ordering::Relaxed);
        let mut call = pin!(invoke(&bound, "1"));
        let stands = tokio::time::timeout(Duration::from_millis(stands_ms), call.as_mut());
        assert!(stands.await.is_err());
        fixture.kept.1.store(false, Ordering::Relaxed);
        // A clock that is told what time it is does not go on by itself under a guest that runs.
        tokio::time::advance(testing::LOOK * 2).await;
        assert!(futures::poll!(call.as_mut()).is_pending());
        tokio::time::advance(Duration::from_millis(10_001 - stands_ms)).await;
        assert_eq!(call.await.result.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn only_who_records_something_stands_for_the_log() {
    let fixture = patient();
    let reads = fixture.bind(&reads_and_loops()).await.unwrap();
    let logs = fixture.bind(&logs_and_computes()).await.unwrap();
    let fine = fixture.bind(&guests::tool("", "", ECHO)).await.unwrap();
    tokio::time::pause();
    fixture.kept.1.store(true, Ordering::Relaxed);
    assert!(invoke(&fine, "1").await.result.is_ok());
    assert_eq!(invoke(&logs, "1").await.result.as_deref(), Ok("1"));
    assert_eq!(fixture.kept.lines(), ["line"], "which no audit log keeps");
    let failure = invoke(&reads, "1").await.result.unwrap_err();
    assert_eq!(failure.code, Code::AuditUnavailable);
}

#[test]
fn a_guest_that_has_ended_does_not_stand_for_the_log() {
    let answered = || {
        testing::one_thread().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let fixture = Fixture::writes_into(&folder).limits(|limits| limits.wall_ms = 1_000);
            let bound = fixture.bind(&makes_a_file(CLOSES)).await.unwrap();
            tokio::time::pause();
            let mut call = pin!(invoke(&bound, "1"));
            let (closes, closed) = until_it_has_read(&fixture.kept, call.as_mut()).await;
            // That is the last that it does before it answers.
            fixture.kept.1.store(true, Ordering::Relaxed);
            let begun = Instant::now();
            drop(closes);
            assert!(closed.await.unwrap());
            let result = call.await.result.map_err(|failure| failure.code);
            (result, begun.elapsed() < Duration::from_secs(1))
        })
    };
    // An epoch that ends between the two ends its turn, too, and it stands: then it is called once more.
    let mut tries = (0..10).map(|_| answered());
    let found = tries.find(|(result, _)| *result != Err(Code::AuditUnavailable));
    assert_eq!(found, Some((Ok("1".to_owned()), true)));
}

#[tokio::test]
async fn a_tool_that_exits_has_not_answered() {
    for (function, status, ended) in [
        ("exit", 0, "as done"),
        // Whatever the code was.
        ("exit", 1, "as failed"),
        ("exit-with-code", 3, "with exit code 3"),
    ] {
        let import = format!(r#"(import "wasi:cli/exit@0.2.12" "{function}" (func $exit (param i32)))"#);
        let guest = guests::tool(&import, "", &format!("(call $exit (i32.const {status})) (i32.const 0)"));
        let failure = Fixture::tool().run(&guest, "1").await.result.unwrap_err();
        let message = format!("the guest ended itself {ended} instead of answering");
        assert_eq!((failure.code, failure.message), (Code::GuestExit, message));
    }
}

#[tokio::test]
async fn the_baseline_is_empty() {
    let imports = r#"(import "wasi:cli/environment@0.2.12" "get-environment" (func $variables (param i32)))
        (import "wasi:cli/environment@0.2.12" "get-arguments" (func $arguments (param i32)))
        (import "wasi:filesystem/preopens@0.2.12" "get-directories" (func $folders (param i32)))
        (import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $socket (param i32 i32)))"#;
    // One digit each: variables, arguments, folders, and whether a socket was refused.
    let digit = |at: i32, value: &str| format!("(i32.store8 (i32.const {at}) (i32.add (i32.const 48) {value}))");
    let body =
        format!(
        "(call $variables (i32.const 600)) {} (call $arguments (i32.const 600)) {} (call $folders (i32.const 600)) {}
         (call $socket (i32.const 0) (i32.const 600)) {}
         (call $ok (i32.const 1024) (i32.const 5))",
        digit(1025, "(i32.load (i32.const 604))"), digit(1026, "(i32.load (i32.const 604))"),
        digit(1027, "(i32.load (i32.const 604))"), digit(1028, "(i32.load8_u (i32.const 600))"),
    );
    let guest = guests::tool(imports, r#"(data (i32.const 1024) "1")"#, &body);
    let completion = Fixture::tool().run(&guest, "1").await;
    assert_eq!(completion.result.as_deref(), Ok("10001"));
}

#[tokio::test]
async fn randomness_comes_in_small_requests() {
    let import = r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))"#;
    let guest = |length: i32| {
        let body =
            format!("(call $random (i64.const {length}) (i32.const 600)) (call $ok (local.get $in) (local.get $len))");
        guests::tool(import, "", &body)
    };
    assert!(Fixture::tool().run(&guest(1 << 20), "1").await.result.is_ok());
    assert_eq!(
        Fixture::tool()
            .run(&guest((1 << 20) + 1), "1")
            .await
            .result
            .unwrap_err()
            .code,
        Code::LimitResource
    );
}

const REQUESTS: &str = r#"(import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.12" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[resource-drop]outgoing-request" (func $drop (param i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-method" (func $method (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-authority" (func $authority (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-path-with-query" (func $path (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-response.body" (func $body (param i32 i32)))"#;

#[tokio::test]
async fn a_request_that_is_never_sent_holds_no_long_text() {
    // One digit each: whether a text of that length was refused. 9 is a method without a name, 1 is that there is a text.
    let texts = [
        ("method", 9, 40001, 128),
        ("method", 9, 40001, 129),
        ("authority", 1, 40001, 259),
        ("authority", 1, 40001, 300),
        ("path", 1, 40000, 32768),
        ("path", 1, 40000, 32769),
    ];
    let digits: String = (1025..)
        .zip(texts)
        .map(|(digit, (set, case, at, length))| {
            format!(
                "(i32.store8 (i32.const {digit}) (i32.add (i32.const 48)
                    (call ${set} (local.get $made) (i32.const {case}) (i32.const {at}) (i32.const {length}))))"
            )
        })
        .collect();
    // And last, whether a response has no body to write into.
    let body = format!(
        "(local $made i32)
        (memory.fill (i32.const 40000) (i32.const 97) (i32.const 40000))
        (i32.store8 (i32.const 40000) (i32.const 47))
        (local.set $made (call $request (call $fields)))
        {digits}
        (call $body (call $response (call $fields)) (i32.const 600))
        (i32.store8 (i32.const 1031) (i32.add (i32.const 48) (i32.load8_u (i32.const 600))))
        (call $ok (i32.const 1024) (i32.const 8))"
    );
    let guest = guests::tool(REQUESTS, r#"(data (i32.const 1024) "1")"#, &body);
    let completion = Fixture::tool().run(&guest, "1").await;
    assert_eq!(completion.result.as_deref(), Ok("10101011"));
}

#[tokio::test]
async fn a_call_has_only_so_many_requests_that_it_does_not_send() {
    let most = aral_contract::limits::HTTP_REQUESTS_UNSENT_MAX;
    for (then, requests, ended) in [
        ("drop", most, Ok("1")),
        ("drop", most + 1, Err(Code::LimitResource)),
        ("call $drop", 10 * most, Ok("1")),
    ] {
        let body = format!(
            "(local $n i32)
            (loop $again
                ({then} (call $request (call $fields)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $n) (i32.const {requests}))))
            (call $ok (local.get $in) (local.get $len))"
        );
        let completion = Fixture::tool().run(&guests::tool(REQUESTS, "", &body), "1").await;
        let result = completion.result.as_deref().map_err(|failure| failure.code);
        assert_eq!(result, ended, "{then} {requests}");
    }
}

const MEMORY: &str = r#"(import "aral:capability/memory-read@1.0.0" "get" (func $get (param i32 i32 i32 i32 i32)))"#;
const ASK_MEMORY: &str = "(call $get (i32.const 1024) (i32.const 5) (i32.const 1024) (i32.const 5) (i32.const 600))
    (call $error (i32.load8_u (i32.const 608)) (i32.load (i32.const 612)) (i32.load (i32.const 616)))";

#[tokio::test]
async fn an_interface_that_is_not_granted_is_not_linked() {
    let guest = guests::tool(MEMORY, r#"(data (i32.const 1024) "notes")"#, ASK_MEMORY);
    let mut fixture = Fixture::tool();
    let failure = fixture.bind(&guest).await.unwrap_err();
    assert_eq!(failure.code, Code::ComponentInvalid);
    assert!(failure.message.contains("aral:capability/memory-read"), "{failure}");
    fixture.permissions = json!({ "memory:read": { "namespaces": ["notes"] } });
    assert_eq!(
        fixture.run(&guest, "1").await.result.unwrap_err().code,
        Code::Unavailable
    );
    let accesses = fixture.kept.accesses();
    assert!(
        matches!(accesses.as_slice(), [EventKind::MemoryAccess { refused: Some(_), .. }]),
        "{accesses:?}"
    );
    fixture.permissions = json!({ "memory:read": { "namespaces": ["other"] } });
    let failure = fixture.run(&guest, "1").await.result.unwrap_err();
    assert_eq!(failure.code, Code::PermissionDenied);
    assert!(failure.message.contains("namespaces = [\"notes\"]"), "{failure}");
}

#[tokio::test]
async fn observing_links_denies_and_records() {
    let guest = guests::tool(MEMORY, r#"(data (i32.const 1024) "notes")"#, ASK_MEMORY);
    let fixture = Fixture {
        ungranted: Ungranted::Observe,
        ..Fixture::tool()
    };
    assert_eq!(
        fixture.run(&guest, "1").await.result.unwrap_err().code,
        Code::PermissionDenied
    );
    let (target, reason) = fixture.kept.denial();
    assert!(
        target == "notes" && reason.contains("[permissions.\"memory:read\"]: namespaces = [\"notes\"]"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_dropped_call_ends_and_the_next_works() {
    let fixture = Fixture::tool().limits(|limits| limits.fuel = u64::MAX);
    let endless = fixture
        .bind(&guests::tool("", "", "(loop $again (br $again)) (i32.const 0)"))
        .await
        .unwrap();
    let fine = fixture.bind(&guests::tool("", "", ECHO)).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(50), invoke(&endless, "1"))
            .await
            .is_err()
    );
    assert_eq!(invoke(&fine, "7").await.result.as_deref(), Ok("7"));
}

#[tokio::test]
async fn a_program_reads_standard_input_and_answers_on_standard_output() {
    let fixture = Fixture::program();
    let completion = fixture
        .run(&guests::program("", "(call $echo) (i32.const 0)"), "{\"a\": 1}")
        .await;
    assert_eq!(completion.result.as_deref(), Ok("{\"a\":1}"));
    let exit = guests::program(
        "[1]",
        "(call $write (i32.const 3)) (call $exit (i32.const 0)) (i32.const 0)",
    );
    assert_eq!(fixture.run(&exit, "1").await.result.as_deref(), Ok("[1]"));
    let complains = guests::program(
        "odd\nthing[2]",
        "(call $complain (i32.const 9)) (call $write (i32.const 12)) (i32.const 0)",
    );
    assert_eq!(
        fixture.run(&complains, "1").await.result.unwrap_err().code,
        Code::OutputInvalid
    );
    assert_eq!(fixture.kept.lines(), ["odd", "thing"]);
}

#[tokio::test]
async fn a_program_that_fails_or_says_too_much_is_told_apart() {
    for (body, code) in [
        ("(i32.const 1)", Code::GuestError),
        (
            "(call $write (i32.const 3)) (call $exit (i32.const 1)) (i32.const 0)",
            Code::GuestError,
        ),
        ("unreachable", Code::GuestTrap),
        ("(i32.const 0)", Code::OutputInvalid),
    ] {
        let failure = Fixture::program()
            .run(&guests::program("[1]", body), "1")
            .await
            .result
            .unwrap_err();
        assert_eq!(failure.code, code, "{body}");
        let is_failed = failure.message == "the program ended as failed";
        assert_eq!(is_failed, code == Code::GuestError, "{body}: {failure:?}");
    }
    let flood = guests::program(
        "111",
        "(loop $again (call $write (i32.const 3)) (br $again)) (i32.const 0)",
    );
    let fixture = Fixture::program().limits(|limits| limits.output_bytes = 1000);
    assert_eq!(
        fixture.run(&flood, "1").await.result.unwrap_err().code,
        Code::OutputTooLarge
    );
}

#[tokio::test]
async fn describing_runs_in_an_empty_sandbox() {
    let fixture = Fixture::tool();
    let compile = |bytes: Vec<u8>| async move {
        let runtime = Fixture::tool().runtime;
        let component = runtime.compile(&bytes, aral_contract::Metering::Metered).await.unwrap();
        crate::describe::describe(&runtime, &component).await
    };
    let descriptor = compile(guests::tool(MEMORY, "", ECHO)).await.unwrap();
    assert_eq!(
        (descriptor.title.as_str(), descriptor.input_schema),
        ("Title", json!(true))
    );
    let failure = compile(guests::program("", "(i32.const 0)")).await.unwrap_err();
    assert_eq!(failure.code, Code::ComponentInvalid);
    for (start, blame) in [
        ("unreachable", Blame::Guest),
        ("(loop $again (br $again))", Blame::Limit),
    ] {
        let start = format!("(func $start {start}) (start $start)");
        let failure = compile(guests::tool("", &start, ECHO)).await.unwrap_err();
        assert_eq!(failure.code.blame(), blame, "{failure:?}");
        assert!(
            failure.message.starts_with("while it described itself: "),
            "{failure:?}"
        );
        let hint = failure.hint.unwrap();
        assert!(hint.contains("constants") && !hint.contains("[limits]"), "{hint}");
    }
    drop(fixture);
}

#[tokio::test]
async fn names_that_a_component_chose_cannot_steer_a_terminal() {
    let runtime = Fixture::tool().runtime;
    let twice = "(import \"url=<\\1b[2J>\" (func))".repeat(2);
    let invalid = [
        "(component (import \"a\" (func)) (import \"a\" (func)))".to_owned(),
        format!("(component {twice})"),
    ];
    for text in invalid {
        let component = wat::parse_str(&text).unwrap();
        let compiled = runtime.compile(&component, aral_contract::Metering::Metered).await;
        let failure = crate::registry::compile_failure(&compiled.err().unwrap());
        assert_eq!(failure.code, Code::ComponentInvalid);
        assert!(failure.message.contains("conflicts"), "{failure:?}");
        assert!(!failure.message.contains('\u{1b}'), "{failure:?}");
    }
}

#[tokio::test]
async fn a_looping_guest_does_not_starve_its_neighbour() {
    let fixture = Fixture::tool().limits(|limits| {
        (limits.fuel, limits.compute_ms, limits.wall_ms) = (u64::MAX, 60_000, 60_000);
    });
    let endless = fixture
        .bind(&guests::tool("", "", "(loop $again (br $again)) (i32.const 0)"))
        .await
        .unwrap();
    let fine = fixture.bind(&guests::tool("", "", ECHO)).await.unwrap();
    // Both on this one thread, and the one that loops is asked first.
    tokio::select! {
        biased;
        looped = invoke(&endless, "1") => panic!("it ended first: {:?}", looped.result),
        answered = invoke(&fine, "7") => assert!(answered.result.is_ok()),
    }
}
