//! The list of the host functions that a call used, as one hash: whoever holds the list can show that it is the one, and
//! the receipt stays small however long it is.

use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::{Digest, Permission};
use sha2::{Digest as _, Sha256};

/// Longest part of a target that is hashed, in bytes: no longer one is granted. Stops a guest from having the host hash megabytes for
/// what it refuses at once, which counts as next to no computing.
const TARGET_BYTES_MAX: usize = 4096;
/// Domain of the hash.
const EMPTY: &[u8] = b"aral.host_calls/v1";

/// Grows with each call of a host function that needs a permission.
#[derive(Debug, Clone)]
pub struct HostCallList {
    count: u64,
    hash: Digest,
    used: [bool; Permission::ALL.len()],
}

impl Default for HostCallList {
    fn default() -> Self {
        Self {
            count: 0,
            hash: Digest::of(EMPTY),
            used: [false; Permission::ALL.len()],
        }
    }
}

impl HostCallList {
    /// One more: under which permission, what it wanted to reach, and whether it was let through. Of a target that is longer than
    /// 4,096 bytes it is these, and the length of all of it.
    pub fn push(&mut self, permission: Permission, target: &str, allowed: bool) {
        let field = |text: &str| (text.len() as u64).to_be_bytes();
        let first = target.as_bytes().get(..TARGET_BYTES_MAX);
        let hash = Sha256::new()
            .chain_update(self.hash.as_bytes())
            .chain_update(field(permission.as_str()))
            .chain_update(permission.as_str())
            .chain_update(field(target))
            .chain_update(first.unwrap_or(target.as_bytes()))
            .chain_update([u8::from(allowed)]);
        self.hash = Digest::from_bytes(hash.finalize().into());
        self.count = self.count.saturating_add(1);
        let all = Permission::ALL.iter().zip(&mut self.used);
        all.filter(|(one, _)| allowed && **one == permission)
            .for_each(|(_, used)| *used = true);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The hash over all of them, in order.
    pub fn digest(&self) -> Digest {
        self.hash
    }

    /// The permissions under which something was let through, each once.
    pub fn permissions(&self) -> Vec<Permission> {
        let all = Permission::ALL.into_iter().zip(self.used);
        all.filter_map(|(permission, used)| used.then_some(permission))
            .collect()
    }
}

/// The list of one call while it grows: the call writes, and whoever records its end reads, also when the call is given up.
#[derive(Debug, Clone, Default)]
pub struct HostCalls(Arc<Mutex<HostCallList>>);

impl HostCalls {
    /// One more, as [`HostCallList::push`].
    pub fn push(&self, permission: Permission, target: &str, allowed: bool) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(permission, target, allowed);
    }

    /// What there is so far.
    pub fn list(&self) -> HostCallList {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(calls: &[(Permission, &str, bool)]) -> HostCallList {
        let mut list = HostCallList::default();
        for (permission, target, allowed) in calls {
            list.push(*permission, target, *allowed);
        }
        list
    }

    #[test]
    fn of_a_long_target_the_beginning_and_the_length_are_hashed() {
        let digest = |target: &str| list(&[(Permission::Exec, target, false)]).digest();
        let same = "é".repeat(TARGET_BYTES_MAX / 2);
        let (long, other) = (format!("{same}a"), format!("{same}b"));
        assert_eq!(digest(&long), digest(&other));
        assert_ne!(digest(&long), digest(&same));
        assert_ne!(digest(&long), digest(&format!("{long}a")));
        assert_ne!(
            digest(&"a".repeat(TARGET_BYTES_MAX)),
            digest(&"b".repeat(TARGET_BYTES_MAX))
        );
        let last = |end: &str| format!("{}{end}", "a".repeat(TARGET_BYTES_MAX - 1));
        assert_ne!(
            digest(&last("a")),
            digest(&last("b")),
            "what is no longer is hashed whole"
        );
    }

    #[test]
    fn the_hash_tells_every_list_from_every_other() {
        use Permission::{Exec, FileRead, NetworkRead};
        let lists = [
            list(&[]),
            list(&[(FileRead, "/data", true)]),
            list(&[(FileRead, "/data", false)]),
            list(&[(NetworkRead, "/data", true)]),
            list(&[(FileRead, "/dat", true)]),
            list(&[(FileRead, "/data", true), (Exec, "git", true)]),
            list(&[(Exec, "git", true), (FileRead, "/data", true)]),
        ];
        for (place, one) in lists.iter().enumerate() {
            for other in lists.iter().skip(place + 1) {
                assert_ne!(one.digest(), other.digest());
            }
        }
        assert_eq!(lists[5].count(), 2);
        assert_eq!(lists[6].permissions(), [FileRead, Exec]);
        assert_eq!(lists[2].permissions(), [], "what was refused was not used");
    }
}
