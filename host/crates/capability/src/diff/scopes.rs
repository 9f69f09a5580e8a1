//! Compares permission scopes. Each scope is a list of items that reach something; an item of the new list that no item
//! of the old list includes is growth.

use aral_contract::scope::{
    AbsolutePath, ExecScope, FileWriteScope, MemoryWriteScope, ProgramScope, ReadPath, SecretScope, SecretUse,
    WritePath,
};
use aral_contract::{HostPattern, Permission, Permissions};
use serde::Serialize;

use super::{Change, Direction};

/// What stands before the name of a secret that is revealed.
const REVEALED: &str = "secret:read revealed";

/// Compares all nine. An empty scope is no permission.
pub(super) fn diff_permissions(old: &Permissions, new: &Permissions) -> Vec<Change> {
    Permission::ALL
        .into_iter()
        .filter_map(|permission| diff_one(permission, old, new))
        .chain(diff_revealed(old, new))
        .collect()
}

/// Which secrets a capability sees is said apart: it is the stronger right, and easily missed in a long scope.
fn diff_revealed(old: &Permissions, new: &Permissions) -> Vec<Change> {
    fn revealed(side: &Permissions) -> impl Iterator<Item = &SecretScope> {
        let secrets = side.secret_read.iter().flat_map(|scope| &scope.secrets);
        secrets.filter(|secret| secret.usage == SecretUse::Reveal)
    }
    let change = |direction, old, new| Change::new(REVEALED, direction, old, new);
    let missing = |secret: &SecretScope, side| !revealed(side).any(|other| other.name == secret.name);
    let added = revealed(new).filter(|secret| missing(secret, old));
    let removed = revealed(old).filter(|secret| missing(secret, new));
    added
        .map(|secret| change(Direction::Added, None, Some(secret.name.to_string())).growing(true))
        .chain(removed.map(|secret| change(Direction::Removed, Some(secret.name.to_string()), None)))
        .collect()
}

fn diff_one(permission: Permission, old: &Permissions, new: &Permissions) -> Option<Change> {
    let (before, after) = (text(permission, old), text(permission, new));
    let direction = match (old.has(permission), new.has(permission)) {
        (false, false) => return None,
        (false, true) => Direction::Added,
        (true, false) => Direction::Removed,
        (true, true) if before == after => return None,
        (true, true) => match (includes(permission, old, new), includes(permission, new, old)) {
            (true, true) => Direction::Changed,
            (true, false) => Direction::Narrower,
            (false, _) => Direction::Wider,
        },
    };
    let grew = matches!(direction, Direction::Added | Direction::Wider) && !includes(permission, old, new);
    let there = |text: Option<String>, side: &Permissions| text.filter(|_| side.has(permission));
    let (before, after) = (there(before, old), there(after, new));
    Some(Change::new(permission.as_str(), direction, before, after).growing(grew))
}

/// The scope as it stands in a document.
fn text(permission: Permission, permissions: &Permissions) -> Option<String> {
    fn json(scope: &Option<impl Serialize>) -> Option<String> {
        scope.as_ref().and_then(|scope| serde_json::to_string(scope).ok())
    }
    match permission {
        Permission::NetworkRead => json(&permissions.network_read),
        Permission::NetworkWrite => json(&permissions.network_write),
        Permission::FileRead => json(&permissions.file_read),
        Permission::FileWrite => json(&permissions.file_write),
        Permission::SecretRead => json(&permissions.secret_read),
        Permission::SecretWrite => json(&permissions.secret_write),
        Permission::MemoryRead => json(&permissions.memory_read),
        Permission::MemoryWrite => json(&permissions.memory_write),
        Permission::Exec => json(&permissions.exec),
    }
}

/// Whether everything that `inner` reaches under a permission is reached by `outer` too.
fn includes(permission: Permission, outer: &Permissions, inner: &Permissions) -> bool {
    fn both<'a, T>(outer: &'a Option<T>, inner: &'a Option<T>, check: impl FnOnce(&'a T, &'a T) -> bool) -> bool {
        match (outer, inner) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(outer), Some(inner)) => check(outer, inner),
        }
    }
    match permission {
        Permission::NetworkRead => both(&outer.network_read, &inner.network_read, |outer, inner| {
            hosts_include(&outer.hosts, &inner.hosts)
        }),
        Permission::NetworkWrite => both(&outer.network_write, &inner.network_write, |outer, inner| {
            hosts_include(&outer.hosts, &inner.hosts)
        }),
        Permission::FileRead => read_includes(outer, inner),
        Permission::FileWrite => both(&outer.file_write, &inner.file_write, write_includes),
        Permission::SecretRead => both(&outer.secret_read, &inner.secret_read, |outer, inner| {
            let covered = |secret: &SecretScope| outer.secrets.iter().any(|one| secret_includes(one, secret));
            inner.secrets.iter().all(covered)
        }),
        Permission::SecretWrite => both(&outer.secret_write, &inner.secret_write, |outer, inner| {
            inner.names.iter().all(|name| outer.names.contains(name))
        }),
        Permission::MemoryRead => both(&outer.memory_read, &inner.memory_read, |outer, inner| {
            inner.namespaces.iter().all(|name| outer.namespaces.contains(name))
        }),
        Permission::MemoryWrite => both(&outer.memory_write, &inner.memory_write, memory_includes),
        Permission::Exec => both(&outer.exec, &inner.exec, exec_includes),
    }
}

fn hosts_include(outer: &[HostPattern], inner: &[HostPattern]) -> bool {
    inner.iter().all(|host| outer.iter().any(|one| one.includes(host)))
}

/// What may be written may be read too.
fn read_includes(outer: &Permissions, inner: &Permissions) -> bool {
    let read = outer
        .file_read
        .iter()
        .flat_map(|scope| &scope.paths)
        .map(|path| &path.host);
    let write = outer
        .file_write
        .iter()
        .flat_map(|scope| &scope.paths)
        .map(|path| &path.host);
    let reach: Vec<&AbsolutePath> = read.chain(write).collect();
    let covered = |path: &ReadPath| reach.iter().any(|one| path.host.is_within(one));
    inner.file_read.iter().flat_map(|scope| &scope.paths).all(covered)
}

/// Quotas add up: two folders inside one old folder, each with its full quota, are more than the old folder. So each new
/// folder is paid for from the quota of an old one, first the one with the same place in the guest.
fn write_includes(outer: &FileWriteScope, inner: &FileWriteScope) -> bool {
    let mut left: Vec<WritePath> = outer.paths.clone();
    let mut take = |path: &WritePath, same_guest: bool| {
        let fits = |one: &&mut WritePath| {
            path.host.is_within(&one.host)
                && (!same_guest || path.guest == one.guest)
                && path.bytes_max <= one.bytes_max
                && path.files_max <= one.files_max
        };
        let Some(payer) = left.iter_mut().find(fits) else {
            return false;
        };
        payer.bytes_max = payer.bytes_max.saturating_sub(path.bytes_max);
        payer.files_max = payer.files_max.saturating_sub(path.files_max);
        true
    };
    let rest: Vec<&WritePath> = inner.paths.iter().filter(|path| !take(path, true)).collect();
    rest.into_iter().all(|path| take(path, false))
}

/// Revealing includes injecting. Another header is another way out for the value, another prefix is not.
fn secret_includes(outer: &SecretScope, inner: &SecretScope) -> bool {
    outer.name == inner.name
        && match (outer.usage, inner.usage) {
            (SecretUse::Reveal, SecretUse::Reveal | SecretUse::Inject) => true,
            (SecretUse::Inject, SecretUse::Reveal) => false,
            (SecretUse::Inject, SecretUse::Inject) => {
                outer.header == inner.header && hosts_include(&outer.hosts, &inner.hosts)
            }
        }
}

fn memory_includes(outer: &MemoryWriteScope, inner: &MemoryWriteScope) -> bool {
    inner.namespaces.iter().all(|name| outer.namespaces.contains(name))
        && inner.bytes_max <= outer.bytes_max
        && inner.records_max <= outer.records_max
}

fn exec_includes(outer: &ExecScope, inner: &ExecScope) -> bool {
    let covers = |one: &ProgramScope, program: &ProgramScope| {
        one.path == program.path
            && one.args.len() == program.args.len()
            && one
                .args
                .iter()
                .zip(&program.args)
                .all(|(outer, inner)| outer.includes(inner))
    };
    inner
        .programs
        .iter()
        .all(|program| outer.programs.iter().any(|one| covers(one, program)))
}
