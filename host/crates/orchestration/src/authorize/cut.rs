//! What a manifest asks for and one party does not give whole, as scopes that hold nothing else: for the words of refusals.

use aral_contract::scope::{
    ExecScope, MemoryReadScope, MemoryWriteScope, NetworkScope, SecretReadScope, SecretWriteScope,
};
use aral_contract::{HostPattern, Permission, Permissions};

use super::narrow::Share;

/// Notes the items of which these are the shares that the party gives, where that is not all.
pub(super) fn note(asked: &Permissions, permission: Permission, shares: &[Share], cut: &mut Permissions) {
    if shares.iter().all(|share| *share == Share::Whole) {
        return;
    }
    let network = |scope: &Option<NetworkScope>| {
        let hosts = scope.as_ref().map(|scope| not_whole(&scope.hosts, shares));
        hosts.map(|hosts| NetworkScope { hosts })
    };
    match permission {
        Permission::NetworkRead => cut.network_read = network(&asked.network_read),
        Permission::NetworkWrite => cut.network_write = network(&asked.network_write),
        // A call has all of its folders, or does not run.
        Permission::FileRead | Permission::FileWrite => {}
        Permission::SecretRead => {
            let secrets = asked
                .secret_read
                .as_ref()
                .map(|scope| not_whole(&scope.secrets, shares));
            cut.secret_read = secrets.map(|secrets| SecretReadScope { secrets });
        }
        Permission::SecretWrite => {
            let names = asked.secret_write.as_ref().map(|scope| not_whole(&scope.names, shares));
            cut.secret_write = names.map(|names| SecretWriteScope { names });
        }
        Permission::MemoryRead => {
            let namespaces = asked
                .memory_read
                .as_ref()
                .map(|scope| not_whole(&scope.namespaces, shares));
            cut.memory_read = namespaces.map(|namespaces| MemoryReadScope { namespaces });
        }
        Permission::MemoryWrite => {
            cut.memory_write = asked.memory_write.as_ref().map(|scope| MemoryWriteScope {
                namespaces: not_whole(&scope.namespaces, shares),
                ..*scope
            });
        }
        Permission::Exec => {
            let programs = asked.exec.as_ref().map(|scope| not_whole(&scope.programs, shares));
            cut.exec = programs.map(|programs| ExecScope { programs });
        }
    }
}

fn not_whole<T: Clone>(items: &[T], shares: &[Share]) -> Vec<T> {
    let lacking = items.iter().zip(shares).filter(|(_, share)| **share != Share::Whole);
    lacking.map(|(item, _)| item.clone()).collect()
}

/// Leaves those hosts of the secrets alone that are not given whole.
pub(super) fn keep_hosts(secrets: &mut Option<SecretReadScope>, is_whole: impl Fn(&HostPattern) -> bool) {
    for secret in secrets.iter_mut().flat_map(|scope| &mut scope.secrets) {
        secret.hosts.retain(|host| !is_whole(host));
    }
}
