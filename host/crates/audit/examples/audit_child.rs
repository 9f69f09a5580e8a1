//! The far end of the tests of the log: a process that can be killed, and one whose disk is full. It speaks one line for
//! each thing that it has done.
#![expect(clippy::print_stdout, reason = "the test reads what this program says")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aral_audit::{AuditLog, Blinder, LogOptions};
use aral_contract::document::PrivateKey;
use aral_contract::event::{AppendOutcome, LifecycleChange};
use aral_contract::{AuditSink as _, Clock as _, Event, EventKind};
use aral_runtime::{SystemClock, files};
use zeroize::Zeroizing;

/// Files of a page each that make a little room: less than the reserve needs.
const LITTLE: usize = 16;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().context("no mode")?;
    let folder = PathBuf::from(arguments.next().context("no folder")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match mode.as_str() {
        "write" => runtime.block_on(write(&folder)),
        "fill" => runtime.block_on(fill(&folder)),
        other => bail!("no mode `{other}`"),
    }
}

fn open(options: &LogOptions) -> Result<AuditLog> {
    let key = PrivateKey::from_seed(&Zeroizing::new([1; 32]));
    let blinder = Arc::new(Blinder::from_key(Zeroizing::new([7; 32])));
    Ok(AuditLog::open(options, key, blinder, Arc::new(SystemClock::new()))?)
}

fn event(number: u64) -> Event {
    Event {
        at: SystemClock::new().now(),
        trace: None,
        kind: EventKind::Lifecycle {
            change: LifecycleChange::Started,
            subject: format!("number {number}"),
            digest: None,
        },
    }
}

fn say(line: &str) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}

/// Writes until it is killed, four at a time, and says the number of each record that is on stable storage.
async fn write(folder: &Path) -> Result<()> {
    let log = open(&LogOptions {
        segment_bytes_max: 16 << 10,
        reserve_bytes: 0,
        ..LogOptions::new(folder.to_owned())
    })?;
    for number in 0.. {
        let all = (
            log.append(event(number)),
            log.append(event(number)),
            log.append(event(number)),
            log.append(event(number)),
        );
        let kept = tokio::join!(all.0, all.1, all.2, all.3);
        for kept in [kept.0, kept.1, kept.2, kept.3] {
            if let AppendOutcome::Recorded(reference) = kept? {
                say(&reference.seq.to_string())?;
            }
        }
    }
    Ok(())
}

/// Fills the disk that `folder` is on, goes on writing, makes room, and looks at what became of it.
async fn fill(folder: &Path) -> Result<()> {
    let options = LogOptions {
        reserve_bytes: 256 << 10,
        ..LogOptions::new(folder.join("log"))
    };
    let log = open(&options)?;
    ensure!(log.append(event(0)).await.is_ok() && log.available().is_ok());
    let filler = folder.join("filler");
    let mut whole = 4096;
    // One byte less each time that there is no room for a page more.
    while files::write_path(&filler, &vec![0; whole], 0o600, files::Replace::Allow).is_ok() {
        whole += 64 << 10;
    }
    let mut small = 0usize;
    while files::write_path(
        &folder.join(format!("small-{small}")),
        &[0; 4096],
        0o600,
        files::Replace::Allow,
    )
    .is_ok()
    {
        small += 1;
    }
    say("the disk is full")?;
    let mut number = 1;
    while log.available().is_ok() {
        log.append(event(number)).await?;
        number += 1;
    }
    say(&format!("refused: {}", log.available().err().context("not refused")?))?;
    // What is under way is still written, into the space of the reserve.
    for _ in 0..100 {
        log.append(event(number)).await?;
        number += 1;
    }
    say("100 more were written")?;
    // The reserve is used up too.
    while log.append(event(number)).await.is_ok() {
        number += 1;
    }
    number += 1;
    say("nothing can be written")?;
    ensure!(log.available().is_err());
    // What is queued meanwhile is not lost.
    for _ in 0..100 {
        log.record(event(number));
        number += 1;
    }
    let dir = files::open_root(folder)?;
    ensure!(small >= LITTLE, "there are only {small} small files");
    for one in 0..LITTLE {
        dir.remove_file(format!("small-{one}"))?;
    }
    for waited in 0.. {
        let is_written = log.append(event(number)).await.is_ok();
        number += 1;
        if is_written {
            break;
        }
        ensure!(waited < 100, "it is not written: {:?}", log.available());
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(log.available().is_err());
    say("with a little room what waits is written, and new work is refused")?;
    dir.remove_file("filler")?;
    for waited in 0.. {
        if log.available().is_ok() {
            break;
        }
        ensure!(waited < 100, "it did not come back: {:?}", log.available());
        std::thread::sleep(Duration::from_millis(100));
    }
    say("it came back")?;
    log.append(event(number)).await?;
    number += 1;
    log.close()?;
    // One record says that the log was opened.
    say(&format!("recorded {}", number + 1))
}
