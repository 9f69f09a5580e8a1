//! Whether the host is well: the audit log takes events, the store is open and takes writes, disks and memory have room. It looks and repairs
//! nothing.

use std::path::{Path, PathBuf};

use aral_contract::failure::chain;
use aral_protocol::{Check, Health};
use aral_runtime::files;

use crate::config::storage::{FREE_BYTES_MIN_DEFAULT, MemoryConfig};
use crate::host::Host;

/// Free memory of the machine, or of what the process may have of it, below which the host is not well: a call or two more, and
/// the system ends a process.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// What the system says of memory fits in this.
const SAID_BYTES_MAX: u64 = 64 << 10;
/// Where the system shows groups of processes (control groups, version 2).
const GROUPS: &str = "/sys/fs/cgroup";

/// Folders with the room that each needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Vec<(PathBuf, u64)>);

impl Places {
    /// `audit` is the folder of the log.
    pub(crate) fn new(state_dir: Option<&Path>, audit: Option<&Path>, memory: Option<&MemoryConfig>) -> Self {
        let own = state_dir.into_iter().chain(audit);
        let own = own.map(|folder| (folder.to_owned(), FREE_BYTES_MIN_DEFAULT));
        let store = memory.map(|memory| (memory.dir.clone(), memory.free_bytes_min));
        Self(own.chain(store).collect())
    }
}

impl Health for Host {
    fn checks(&self) -> Vec<Check> {
        let check = |name, fault| Check { name, fault };
        let store = self.0.store.as_ref();
        let full = self.places().0.iter().find_map(|(folder, min)| room(folder, *min));
        vec![
            check("audit", self.sink().available().err().map(|error| chain(&error))),
            check(
                "store",
                store
                    .and_then(|store| store.check().err())
                    .map(|failure| failure.message),
            ),
            check("disk", full),
            check("memory", memory()),
        ]
    }
}

/// None: there is enough.
fn room(folder: &Path, bytes_min: u64) -> Option<String> {
    let shown = folder.display();
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            (free < bytes_min).then(|| format!("`{shown}` has {free} bytes free, less than {bytes_min}"))
        }
        Err(error) => Some(format!("`{shown}` cannot be looked at: {error}")),
    }
}

/// None: there is enough.
fn memory() -> Option<String> {
    let machine = match said(Path::new("/proc/meminfo")) {
        Ok(text) => available(&text).map(|free| ("the machine".to_owned(), free)),
        Err(error) => return Some(chain(&error)),
    };
    // A system without groups has no bounds of theirs.
    let of_process = said(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let groups = groups(&of_process).into_iter().filter_map(|folder| {
        let free = left(&folder)?;
        Some((format!("the control group `{}`", folder.display()), free))
    });
    let (whose, free) = machine.into_iter().chain(groups).min_by_key(|(_, free)| *free)?;
    (free < MEMORY_BYTES_MIN)
        .then(|| format!("{whose} has {free} bytes of memory available, less than {MEMORY_BYTES_MIN}"))
}

fn said(path: &Path) -> Result<String, files::FilesError> {
    let bytes = files::read_path(path, SAID_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Of all processes together, in bytes; none: an old system does not say.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// The folders of the group that `/proc/self/cgroup` names and of all around it, each of which may have a bound. In a container
/// the inner ones may be out of sight.
fn groups(of_process: &str) -> Vec<PathBuf> {
    let Some(own) = of_process.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let own = Path::new(GROUPS).join(own);
    let all = own.ancestors().take_while(|folder| folder.starts_with(GROUPS));
    all.map(Path::to_path_buf).collect()
}

/// What a group may still have, in bytes; none: it has no bound. What it has of files counts as free, as it does for the
/// machine: the system takes that back before it ends a process.
fn left(group: &Path) -> Option<u64> {
    let number = |name| said(&group.join(name)).ok()?.trim().parse::<u64>().ok();
    let (most, used) = (number("memory.max")?, number("memory.current")?);
    let stat = said(&group.join("memory.stat")).unwrap_or_default();
    let given_back = stat.lines().filter_map(|line| match line.split_once(' ')? {
        ("inactive_file" | "active_file" | "slab_reclaimable", bytes) => bytes.trim().parse::<u64>().ok(),
        _ => None,
    });
    Some(most.saturating_sub(used.saturating_sub(given_back.fold(0, u64::saturating_add))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aral_audit::LogOptions;

    use super::*;
    use crate::Config;
    use crate::config::audit::AuditConfig;
    use crate::config::storage::MasterKeyPlace;
    use crate::testing::Full;

    /// What is wrong, with the name of the check that found it.
    fn faults(host: &Host) -> Vec<(&'static str, String)> {
        let checks = host.checks().into_iter();
        checks.filter_map(|check| Some((check.name, check.fault?))).collect()
    }

    #[test]
    fn a_log_that_takes_nothing_is_not_well() {
        let well = Host::builder().build().unwrap();
        assert!(faults(&well).is_empty());
        let host = Host::builder().sink(Arc::new(Full)).build().unwrap();
        let fault = "the audit log cannot be written: the disk is full".to_owned();
        assert_eq!(faults(&host), [("audit", fault)]);
    }

    #[test]
    fn a_store_that_cannot_be_opened_is_not_well() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("master.key");
        files::write_path(&key, "ab".repeat(32).as_bytes(), 0o600, files::Replace::Allow).unwrap();
        let config = Config {
            memory: Some(MemoryConfig {
                dir: folder.path().join("store"),
                cache_bytes_max: 1 << 20,
                free_bytes_min: 0,
                sweep_ms: 1000,
                master_key: MasterKeyPlace::File(key),
                epoch: None,
            }),
            ..Config::closed().unwrap()
        };
        let host = || Host::builder().config(config.clone()).build().unwrap();
        let (first, second) = (host(), host());
        first.open_store().unwrap();
        assert!(faults(&first).is_empty());
        let found = faults(&second);
        assert!(
            matches!(&*found, [("store", fault)] if fault.contains("is open in another process")),
            "{found:?}"
        );
    }

    #[test]
    fn a_folder_without_room_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(room(folder.path(), 1), None);
        assert!(room(folder.path(), u64::MAX).unwrap().contains("less than"));
        assert!(
            room(&folder.path().join("none"), 1)
                .unwrap()
                .contains("cannot be looked at")
        );
    }

    #[test]
    fn available_memory_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        assert_eq!(memory(), None, "this machine has room for a test");
    }

    #[test]
    fn the_folder_of_the_audit_log_is_looked_at_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [state, log] = ["state", "log"].map(|name| folder.path().join(name));
        let config = Config {
            state_dir: Some(state.clone()),
            audit: Some(AuditConfig {
                dir: Some(log.clone()),
                log: LogOptions {
                    reserve_bytes: 0,
                    ..LogOptions::new(PathBuf::new())
                },
                ..AuditConfig::default()
            }),
            ..Config::closed().unwrap()
        };
        let host = Host::builder().config(config).build().unwrap();
        let folders: Vec<_> = host.places().0.iter().map(|(folder, _)| folder.as_path()).collect();
        assert_eq!(folders, [state.as_path(), log.as_path()]);
    }

    #[test]
    fn a_group_may_have_less_memory_than_the_machine() {
        let group = tempfile::tempdir().unwrap();
        let says = |name: &str, text: &str| {
            let path = group.path().join(name);
            files::write_path(&path, text.as_bytes(), 0o600, files::Replace::Allow).unwrap();
        };
        assert_eq!(left(group.path()), None);
        says("memory.max", "max\n");
        says("memory.current", "90\n");
        assert_eq!(left(group.path()), None);
        says("memory.max", "100\n");
        assert_eq!(left(group.path()), Some(10));
        says(
            "memory.stat",
            "anon 50\nfile 40\nshmem 5\ninactive_file 20\nactive_file 10\nslab_reclaimable 3\nslab 9\n",
        );
        assert_eq!(left(group.path()), Some(43));
        says("memory.current", "500\n");
        assert_eq!(left(group.path()), Some(0));
    }

    #[test]
    fn the_groups_around_the_own_one_count_too() {
        let folders = |text: &str| {
            let found = groups(text).into_iter();
            found.map(|folder| folder.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            folders("4:memory:/old\n0::/system.slice/aral.service\n"),
            [
                "/sys/fs/cgroup/system.slice/aral.service",
                "/sys/fs/cgroup/system.slice",
                "/sys/fs/cgroup"
            ]
        );
        assert_eq!(folders("0::/\n"), ["/sys/fs/cgroup/"]);
        assert!(folders("4:memory:/old\n").is_empty() && folders("").is_empty());
    }
}
