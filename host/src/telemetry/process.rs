//! What the process uses of the machine, from `/proc`, under the names that Prometheus clients use for it.

use std::path::Path;
use std::sync::OnceLock;

use aral_contract::metric::{
    PROCESS_CPU, PROCESS_FDS, PROCESS_FDS_MAX, PROCESS_RESIDENT, PROCESS_START, PROCESS_THREADS, PROCESS_VIRTUAL,
};
use aral_runtime::files;
use metrics::counter;
use rustix::process::{Resource, getrlimit};

use super::observe::set;

/// What the system says of a process fits in this.
const STAT_BYTES_MAX: u64 = 64 << 10;
/// Descriptors that are counted at most.
const FDS_MAX: usize = 1 << 20;

/// Ticks a second in what the system says of processor time, on every architecture that this runs on (`USER_HZ`).
const TICKS: u64 = 100;

/// When this process began, by the clock as it stood at the first look: the system moves its word with each step of that clock.
static BEGAN: OnceLock<u64> = OnceLock::new();

/// Reads everything. What the system does not say is left as it was.
pub(super) fn observe() {
    if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
        counter!(PROCESS_CPU.name).absolute(stat.cpu_ticks / TICKS);
        let boot = || field(&read("/proc/stat")?, "btime ");
        if let Some(began) = began(&BEGAN, stat.start_ticks, boot) {
            set(PROCESS_START, began);
        }
    }
    if let Some(status) = read("/proc/self/status") {
        for (metric, name, one) in [
            (PROCESS_RESIDENT, "VmRSS:", 1024),
            (PROCESS_VIRTUAL, "VmSize:", 1024),
            (PROCESS_THREADS, "Threads:", 1),
        ] {
            if let Some(count) = field(&status, name) {
                set(metric, count.saturating_mul(one));
            }
        }
    }
    let open = files::open_root(Path::new("/proc/self/fd")).ok();
    if let Some(open) = open.and_then(|folder| folder.entries().ok()) {
        set(
            PROCESS_FDS,
            u64::try_from(open.take(FDS_MAX).count()).unwrap_or(u64::MAX),
        );
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        set(PROCESS_FDS_MAX, most);
    }
}

/// The time of the first look, or that of this one if it is the first.
fn began(first: &OnceLock<u64>, start_ticks: u64, boot: impl FnOnce() -> Option<u64>) -> Option<u64> {
    if first.get().is_none() {
        let began = boot()?.saturating_add(start_ticks / TICKS);
        return Some(*first.get_or_init(|| began));
    }
    first.get().copied()
}

fn read(path: &str) -> Option<String> {
    let bytes = files::read_path(Path::new(path), STAT_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Of `/proc/self/stat`, see proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
}

impl Stat {
    /// The second field is a name that can hold anything but ends with the last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The first of these is the third of the file.
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            start_ticks: field(22)?,
        })
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let text = "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 7 18 19 20 21";
        let expected = Stat {
            cpu_ticks: 11 + 12,
            start_ticks: 19,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("1 (a"), None);
        assert_eq!(field("cpu 1\nbtime 17\n", "btime "), Some(17));
        assert_eq!(field("VmRSS:\t   20 kB\n", "VmRSS:"), Some(20));
    }

    #[test]
    fn a_step_of_the_clock_moves_no_start() {
        let first = OnceLock::new();
        assert_eq!(began(&first, 250, || None), None);
        assert_eq!(began(&first, 250, || Some(1_000)), Some(1_002));
        assert_eq!(began(&first, 250, || Some(5_000)), Some(1_002));
    }

    #[test]
    fn this_process_is_seen() {
        assert!(Stat::parse(&read("/proc/self/stat").unwrap()).unwrap().start_ticks > 0);
        let status = read("/proc/self/status").unwrap();
        assert!(field(&status, "VmRSS:").unwrap() > 0 && field(&status, "Threads:").unwrap() > 0);
        assert!(field(&read("/proc/stat").unwrap(), "btime ").unwrap() > 1_000_000_000);
    }
}
