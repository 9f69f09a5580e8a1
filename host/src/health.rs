//! Whether the host is well: the audit log takes events, the store is open and takes writes, disks and memory have room. It looks and repairs
//! nothing.

use std::path::{Path, PathBuf};

use aral_contract::failure::chain;
use aral_protocol::{Check, Health};
use aral_runtime::files;

use crate::config::storage::{FREE_BYTES_MIN_DEFAULT, MemoryConfig};
use crate::host::Host;

/// Free memory of the machine below which the host is not well: a call or two more, and the system ends a process.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// What the system says of its memory fits in this.
const MEMINFO_BYTES_MAX: u64 = 64 << 10;

/// Folders with the room that each needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Vec<(PathBuf, u64)>);

impl Places {
    pub(crate) fn new(state_dir: Option<PathBuf>, memory: Option<&MemoryConfig>) -> Self {
        let state = state_dir.map(|folder| (folder, FREE_BYTES_MIN_DEFAULT));
        let store = memory.map(|memory| (memory.dir.clone(), memory.free_bytes_min));
        Self(state.into_iter().chain(store).collect())
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
    let text = match files::read_path(Path::new("/proc/meminfo"), MEMINFO_BYTES_MAX) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return Some(chain(&error)),
    };
    let free = available(&text)?;
    (free < MEMORY_BYTES_MIN)
        .then(|| format!("the machine has {free} bytes of memory available, less than {MEMORY_BYTES_MIN}"))
}

/// Of all processes together, in bytes; none: an old system does not say.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aral_contract::event::SinkUnavailable;
    use aral_contract::{AuditSink, Event};

    use super::*;
    use crate::Config;
    use crate::config::storage::MasterKeyPlace;

    /// What is wrong, with the name of the check that found it.
    fn faults(host: &Host) -> Vec<(&'static str, String)> {
        let checks = host.checks().into_iter();
        checks.filter_map(|check| Some((check.name, check.fault?))).collect()
    }

    #[test]
    fn a_log_that_takes_nothing_is_not_well() {
        #[derive(Debug)]
        struct Full;
        impl AuditSink for Full {
            fn record(&self, _event: Event) {}
            fn available(&self) -> Result<(), SinkUnavailable> {
                let reason = "the disk is full".to_owned();
                Err(SinkUnavailable { reason })
            }
        }
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
}
