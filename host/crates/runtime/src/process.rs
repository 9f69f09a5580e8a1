//! Limits of the host's own process, set once at start. A guest cannot reach these; they bound what a mistake in the
//! host can cost.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask};

use crate::{danger, engine};

/// Descriptors by default: connections of 1,000 calls in flight with room to spare.
pub const OPEN_FILES_MAX_DEFAULT: u64 = 16_384;

/// Fewest descriptors with which a host works: with a third of them it opens its log and its cache, and no call ends.
pub const OPEN_FILES_MIN: u64 = 64;
/// Least address space with which a host works, in bytes: 2 GiB. A server with a store reserves more than 1 GiB on two processors, and
/// without enough of it the process is aborted, with no message and no end of its calls on record.
pub const ADDRESS_SPACE_BYTES_MIN: u64 = 2 << 30;

/// What helps where the system refuses this process a thread or a descriptor.
pub const HAVE_MORE: &str = "let the process have more when it starts (a shell: `ulimit -u` and `ulimit -n`; systemd: `TasksMax=` and \
                             `LimitNOFILE=`; a container: `--pids-limit`)";

/// What to set. Core dumps are always off: a dump would hold the plaintext of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Descriptors; raised or lowered to this, as far as the system lets it.
    pub open_files_max: u64,
    /// Address space in bytes; none leaves it alone. Engines made under a tight limit do without the pool.
    pub address_space_bytes_max: Option<u64>,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        Self {
            open_files_max: OPEN_FILES_MAX_DEFAULT,
            address_space_bytes_max: None,
        }
    }
}

/// The system refused a limit.
#[derive(Debug, thiserror::Error)]
#[error("the system refuses to set `{name}`")]
pub struct ProcessError {
    name: &'static str,
    #[source]
    source: std::io::Error,
}

/// Sets the limits for this process and those it starts, and takes what is the owner's out of its mask of files. Call it once, first
/// thing in `main`.
pub fn apply(limits: &ProcessLimits) -> Result<(), ProcessError> {
    set("RLIMIT_CORE", Resource::Core, Some(0), Some(0))?;
    // Now, because a process that cannot be dumped may no longer open its own page map unless it is root's.
    let tells_written_pages = engine::can_tell_written_pages();
    tracing::debug!(tells_written_pages, "asked the system before it stops answering");
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| ProcessError {
        name: "PR_SET_DUMPABLE",
        source: error.into(),
    })?;
    let hard = getrlimit(Resource::Nofile).maximum;
    let files = hard.map_or(limits.open_files_max, |hard| hard.min(limits.open_files_max));
    set("RLIMIT_NOFILE", Resource::Nofile, Some(files), Some(files))?;
    // A server must not end because it was busy for long or keeps much: the soft limits that a login session may have set go.
    for (name, resource) in [("RLIMIT_CPU", Resource::Cpu), ("RLIMIT_FSIZE", Resource::Fsize)] {
        let hard = getrlimit(resource).maximum;
        set(name, resource, hard, hard)?;
    }
    // What its owner cannot open again, as of the lock of a folder, is lost to the next process.
    let others = Mode::RWXG | Mode::RWXO;
    let mask = umask(others);
    umask(mask & others);
    // Where there is a hard one, a guest's file that reaches it must not end everybody.
    danger::outlive_large_files();
    if let Some(bytes) = limits.address_space_bytes_max {
        let hard = getrlimit(Resource::As).maximum;
        let bytes = hard.map_or(bytes, |hard| hard.min(bytes));
        set("RLIMIT_AS", Resource::As, Some(bytes), Some(bytes))?;
    }
    Ok(())
}

/// Descriptors that this process may have now; none: any number.
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn set(name: &'static str, resource: Resource, current: Option<u64>, maximum: Option<u64>) -> Result<(), ProcessError> {
    setrlimit(resource, Rlimit { current, maximum }).map_err(|error| ProcessError {
        name,
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::testing::child_program;

    /// What a process of its own reports after it set its limits. Its login session has soft ones.
    fn report(address_space_bytes: &str) -> String {
        let output = Command::new("sh")
            .args([
                "-c",
                "ulimit -S -f 1; ulimit -S -t 100; umask 0726; exec \"$0\" limits \"$1\"",
            ])
            .arg(child_program())
            .arg(address_space_bytes)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_file_that_becomes_too_large_is_an_error_and_not_the_end() {
        let output = Command::new("sh")
            .args(["-c", "ulimit -f 1; exec \"$0\" large"])
            .arg(child_program())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.starts_with("FileTooLarge"),
            "{output:?}"
        );
    }

    /// The soft and hard value of a line of `/proc/self/limits`.
    fn limit<'a>(report: &'a str, name: &str) -> Vec<&'a str> {
        let line = report.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).collect()
    }

    #[test]
    fn the_system_holds_the_process_to_its_limits() {
        let open = report("none");
        assert_eq!(limit(&open, "Max core file size"), ["0", "0"]);
        assert_eq!(limit(&open, "Max open files"), ["123", "123"]);
        assert_eq!(limit(&open, "Max cpu time"), ["unlimited", "unlimited"]);
        assert_eq!(limit(&open, "Max file size"), ["unlimited", "unlimited"]);
        assert_eq!(limit(&open, "Max address space"), ["unlimited", "unlimited"]);
        assert!(open.contains("dumpable: Ok(NotDumpable)"), "{open}");
        assert!(open.contains("open_files_max: Some(123)"), "{open}");
        assert!(open.contains("Umask:\t0026"), "what is the owner's stays: {open}");
        assert!(open.contains("pooled: true, calls that worked: 20"), "{open}");
    }

    #[test]
    fn under_a_tight_address_space_calls_run_without_a_pool() {
        let tight = report("4294967296");
        assert_eq!(limit(&tight, "Max address space"), ["4294967296", "4294967296"]);
        assert!(tight.contains("pooled: false, calls that worked: 20"), "{tight}");
    }
}
