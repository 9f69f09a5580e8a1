//! The program that the trials of the store kill: it opens a store, does what a script says, and tells of each turn when
//! the store has acknowledged it. `writer STORE KEY SECONDS SCRIPT [STEP NTH]`: the folder, the text of the master key, the
//! time of day, the file with the turns; and, if it is to kill itself, at which step of a write and at which time there.
#![expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a program for tests, which read what it prints"
)]

#[path = "../tests/trials/clock.rs"]
mod clock;
#[path = "../tests/trials/script.rs"]
#[expect(dead_code, reason = "the tests alone work out what must come of a script")]
mod script;

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_memory::record::PAGE_NAMES_MAX;
use aral_memory::sealed::{Step, Steps};
use aral_memory::{
    MasterKey, Operation, Precondition, Quota, RecordStore, SealedStore, StoreError, StoreOptions, Write,
};
use clock::SteppedClock;
use script::{Act, Change, Turn};
use zeroize::Zeroizing;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (run, step) = match args.as_slice() {
        [store, key, seconds, script] => ([*store, *key, *seconds, *script], None),
        [store, key, seconds, script, step, nth] => ([*store, *key, *seconds, *script], Some((*step, *nth))),
        _ => return ExitCode::from(2),
    };
    match write(run, step) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One line, in one write: whoever reads it has it whole or not at all.
fn tell(line: &str) {
    let told = std::io::stdout().write_all(format!("{line}\n").as_bytes());
    told.expect("somebody reads");
}

/// Kills this process, as `kill -9` does, when `step` is reached for the `nth` time.
fn killed_at(step: &str, nth: &str) -> Steps {
    let wanted = Step::ALL.into_iter().find(|one| format!("{one:?}") == step);
    let wanted = wanted.expect("a step of a write");
    let left = AtomicUsize::new(nth.parse().expect("a number"));
    Steps::watched(move |reached| {
        if reached == wanted && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("a process may kill itself");
            std::thread::park();
        }
    })
}

fn write([path, key, seconds, script]: [&str; 4], step: Option<(&str, &str)>) -> Result<(), StoreError> {
    let clock = Arc::new(SteppedClock::at(seconds.parse().expect("seconds")));
    let script = std::fs::read_to_string(script).expect("a script");
    let turns = script::parse(&script).expect("a script");
    let key = MasterKey::from_text(key.as_bytes())?;
    let mut options = StoreOptions::new(path, key, clock.clone());
    options.free_bytes_min = 0;
    "writer".clone_into(&mut options.holder);
    if let Some((step, nth)) = step {
        options.steps = killed_at(step, nth);
    }
    let store = SealedStore::open(options)?;
    tell("open");
    let threads = turns.iter().map(|turn| turn.thread).max().unwrap_or(0);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..=threads)
            .map(|thread| {
                let own = turns.iter().filter(move |turn| turn.thread == thread);
                scope.spawn(|| {
                    own.enumerate()
                        .try_for_each(|(index, turn)| take(&store, &clock, index, turn))
                })
            })
            .collect();
        let mut ended = running
            .into_iter()
            .map(|thread| thread.join().expect("a thread that ends"));
        ended.try_for_each(|ended| ended)
    })?;
    tell("end");
    // Until whoever reads has seen enough, or kills this process.
    let mut rest = Vec::new();
    let _ends = std::io::stdin().read_to_end(&mut rest);
    Ok(())
}

fn take(store: &SealedStore, clock: &SteppedClock, index: usize, turn: &Turn) -> Result<(), StoreError> {
    match &turn.act {
        Act::Apply { namespace, changes } => {
            let namespace = namespace.parse().expect("a namespace");
            let operations = changes.iter().map(operation).collect();
            store.memory().apply(&namespace, operations, &Quota::UNLIMITED)?;
        }
        Act::Wait { seconds } => clock.advance(*seconds),
        Act::Read { namespace } => read(&*store.memory(), &namespace.parse().expect("a namespace"))?,
        Act::Sweep => while store.sweep(100)?.more {},
        Act::Rotate { key } => {
            let key = MasterKey::from_text(key.as_bytes())?;
            store.rotate_key(&key, &mut |_| {})?;
        }
    }
    tell(&format!("{} {index}", turn.thread));
    Ok(())
}

fn read(records: &dyn RecordStore, namespace: &Namespace) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        let page = records.list(namespace, "", cursor.as_deref(), PAGE_NAMES_MAX)?;
        for name in &page.names {
            records.get(namespace, name)?;
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

fn operation(change: &Change) -> Operation {
    match change {
        Change::Put {
            name,
            value,
            ttl_seconds,
            class,
        } => Operation::Put(Write {
            name: name.parse().expect("a name"),
            value: Zeroizing::new(value.to_bytes()),
            ttl_seconds: *ttl_seconds,
            classification: Classification::ALL.into_iter().nth(*class).expect("one of four"),
            precondition: Precondition::Any,
        }),
        Change::Delete { name } => Operation::Delete {
            name: name.parse().expect("a name"),
            precondition: Precondition::Any,
        },
    }
}
