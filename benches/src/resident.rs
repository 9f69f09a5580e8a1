//! Resident memory of a process, in bytes. The system keeps the most that there ever was: what a measurement adds is hidden below what
//! was given back before it, unless that is forgotten first.

use std::process;

use anyhow::{Context as _, Result};

/// What is resident now. The peak is that of what comes from here on.
pub fn begin() -> Result<u64> {
    std::fs::write("/proc/self/clear_refs", "5").context("could not forget the peak of resident memory")?;
    of(process::id())
}

/// What is resident of a process now.
pub fn of(process: u32) -> Result<u64> {
    bytes(process, "VmRSS:")
}

/// The most that was resident at once since [`begin`].
pub fn peak() -> Result<u64> {
    bytes(process::id(), "VmHWM:")
}

fn bytes(process: u32, line: &str) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let found = status.lines().find_map(|one| one.strip_prefix(line));
    let kilobytes = found.with_context(|| format!("no {line} in {path}: the process has ended"))?;
    let kilobytes: u64 = kilobytes.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// As people read it.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    const MUCH: usize = 256 << 20;

    #[test]
    fn a_process_that_is_not_there_is_no_number() {
        assert!(of(process::id()).unwrap() > 0);
        assert!(of(u32::MAX).is_err());
    }

    #[test]
    fn what_was_given_back_before_is_no_peak_and_what_comes_is() {
        drop(black_box(vec![1_u8; MUCH]));
        let before = begin().unwrap();
        assert!(peak().unwrap().saturating_sub(before) < MUCH as u64 / 2);
        drop(black_box(vec![1_u8; MUCH]));
        assert!(peak().unwrap().saturating_sub(before) > MUCH as u64 / 2);
    }
}
