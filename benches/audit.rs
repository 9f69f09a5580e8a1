//! What does a record cost: on the thread that hands it over, from end to end at full speed, and when a million of them
//! are verified?

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aral_audit::{AuditLog, Blinder, Durability, HostCallList, LogOptions, verify};
use aral_contract::document::{Kind, PrivateKey, TrustStore};
use aral_contract::{AuditSink as _, Clock as _, Digest, Event, EventKind, Evidence, Permission, TraceId, Usage};
use aral_runtime::SystemClock;
use criterion::{Criterion, Throughput};
use zeroize::Zeroizing;

/// Fewer than the queue holds, so that nobody waits for room.
const BURST: u64 = 4096;
const SUSTAINED: u64 = 100_000;
const MILLION: u64 = 1_000_000;

fn key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([1; 32]))
}

fn open(directory: &Path, durability: Durability) -> Result<AuditLog> {
    let options = LogOptions {
        durability,
        ..LogOptions::new(directory.to_owned())
    };
    let blinder = Arc::new(Blinder::from_key(Zeroizing::new([7; 32])));
    Ok(AuditLog::open(&options, key(), blinder, Arc::new(SystemClock::new()))?)
}

/// The end of a call with everything that its receipt binds: the largest record that every call makes.
fn event(number: u64) -> Result<Event> {
    let evidence = Evidence {
        version: "1.0.0".parse()?,
        component: Digest::of(b"component"),
        manifest: Digest::of(b"manifest"),
        persona: "researcher".parse()?,
        persona_digest: Digest::of(b"persona"),
        policy: Digest::of(b"policy"),
        grant: Digest::of(b"grant"),
        permissions: vec![Permission::FileRead],
        input: Digest::of(&number.to_be_bytes()),
        output: Some(Digest::of(b"output")),
        host_calls: 0,
        host_calls_digest: HostCallList::default().digest(),
    };
    Ok(Event {
        at: SystemClock::new().now(),
        trace: Some(TraceId::from_bytes([7; 16])),
        kind: EventKind::InvocationEnded {
            capability: "text-grep".parse()?,
            persona: "researcher".parse()?,
            code: None,
            usage: Usage::default(),
            user: None,
            callers: Vec::new(),
            evidence: Some(Box::new(evidence)),
        },
    })
}

/// Writes a log of a million records.
fn fill(folder: &Path, events: &[Event]) -> Result<()> {
    let log = open(folder, Durability::Async)?;
    events
        .iter()
        .cycle()
        .zip(1..MILLION)
        .for_each(|(event, _)| log.record(event.clone()));
    log.close()?;
    Ok(())
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let events: Vec<Event> = (0..BURST).map(event).collect::<Result<_>>()?;
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("audit");

    // Only handing over is timed; what the writer has not done by then is waited for outside.
    let log = open(&folder.path().join("append"), Durability::Async)?;
    group.bench_function("append", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for begin in (0..count).step_by(events.len()) {
                let left = usize::try_from(count - begin).unwrap_or(usize::MAX);
                let burst: Vec<Event> = events.iter().take(left).cloned().collect();
                let begun = Instant::now();
                burst.into_iter().for_each(|event| log.record(event));
                spent += begun.elapsed();
                let _kept = log.flush();
            }
            spent
        });
    });
    log.close()?;

    for (name, durability) in [
        ("sustained-async", Durability::Async),
        ("sustained-sync", Durability::Sync),
    ] {
        let log = open(&folder.path().join(name), durability)?;
        let mut runs = 0;
        group.throughput(Throughput::Elements(SUSTAINED));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runs += 1;
                events
                    .iter()
                    .cycle()
                    .zip(0..SUSTAINED)
                    .for_each(|(event, _)| log.record(event.clone()));
                log.flush()
            });
        });
        let written = log.durable();
        log.close()?;
        // One record says that the log was opened.
        ensure!(written == 1 + runs * SUSTAINED, "the log lost records");
    }

    let million = folder.path().join("million");
    let mut trust = TrustStore::default();
    trust.add(key().public(), &[Kind::Checkpoint]);
    group.throughput(Throughput::Elements(MILLION));
    let mut filled: Option<Result<()>> = None;
    let mut report = None;
    group.bench_function("verify-million", |bencher| {
        // Here, so that a filter that leaves this out leaves the log out as well.
        filled.get_or_insert_with(|| fill(&million, &events));
        bencher.iter(|| report = verify(&million, &trust, &[]).ok())
    });
    filled.transpose()?;
    // None if only other questions were asked.
    let good = report.is_none_or(|report| report.is_good() && report.size == MILLION);
    ensure!(good, "the log is not good");
    group.finish();
    criterion.final_summary();
    Ok(())
}
