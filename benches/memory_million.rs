//! How long does a store of a million records of 1 KiB take to open, and how much memory to list? Each part runs in a
//! process of its own, so that one does not warm the other's memory.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use aral_benches::records::{CACHE_BYTES, Sealed};
use aral_benches::resident;

const RECORDS: u64 = 1_000_000;
/// Names the part that a process is to do.
const PART: &str = "ARAL_BENCH_PART";
const FOLDER: &str = "ARAL_BENCH_FOLDER";

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
fn part(part: &str, folder: &Path) -> Result<()> {
    let start = Instant::now();
    let sealed = Sealed::open(folder, CACHE_BYTES)?;
    let opened = start.elapsed();
    match part {
        "fill" => {
            for first in (0..RECORDS).step_by(1000) {
                sealed.put(first..first + 1000, None)?;
            }
            println!("memory_million/fill    {:.1} s", start.elapsed().as_secs_f64());
        }
        "open" => {
            ensure!(sealed.get(RECORDS / 2)?.len() == 1024, "a record is not what it was");
            println!("memory_million/open    {:.2} s", opened.as_secs_f64());
        }
        "list" => {
            let before = resident::begin()?;
            let (mut names, mut cursor) = (0, None);
            let listing = Instant::now();
            loop {
                let page = sealed.records.list(sealed.namespace(), "", cursor.as_deref(), 1000)?;
                names += page.names.len() as u64;
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            ensure!(names == RECORDS, "{names} names are listed");
            println!(
                "memory_million/list    {:.1} s, resident memory {:.0} MiB before, {:.0} MiB at most",
                listing.elapsed().as_secs_f64(),
                resident::mebibytes(before),
                resident::mebibytes(resident::peak()?),
            );
        }
        other => bail!("there is no part `{other}`"),
    }
    Ok(())
}

fn main() -> Result<()> {
    if let (Some(name), Some(folder)) = (std::env::var_os(PART), std::env::var_os(FOLDER)) {
        return part(&name.to_string_lossy(), Path::new(&folder));
    }
    let folder = tempfile::tempdir()?;
    for part in ["fill", "open", "open", "list"] {
        let status = Command::new(std::env::current_exe()?)
            .env(PART, part)
            .env(FOLDER, folder.path().join("store"))
            .status()?;
        ensure!(status.success(), "the part `{part}` failed");
    }
    Ok(())
}
