//! The rules of permission scopes: bounds, and combinations that would mean two things or nothing.

use aral_contract::Permission;
use aral_contract::Permissions;
use aral_contract::quote::quoted;
use aral_contract::scope::{AbsolutePath, ArgumentPattern, ProgramScope, SecretScope, SecretUse};

use super::{ManifestError, SCOPE_ITEMS_MAX, SECRETS_MAX};
use crate::fields;

/// Arguments of one program.
pub(super) const ARGUMENTS_MAX: usize = 64;
/// Longest literal argument, in bytes.
pub(super) const ARGUMENT_BYTES_MAX: usize = 4096;
/// Longest header name or prefix, in bytes.
const HEADER_BYTES_MAX: usize = 128;

/// Every rule on the permissions of one entry.
///
/// # Errors
/// The first one that they break.
pub fn check(permissions: &Permissions) -> Result<(), ManifestError> {
    check_counts(permissions)?;
    check_guest_paths(permissions)?;
    check_written_paths(permissions)?;
    check_quotas(permissions)?;
    if let Some(scope) = &permissions.secret_read {
        check_unique(
            Permission::SecretRead,
            scope.secrets.iter().map(|secret| secret.name.as_str()),
        )?;
        scope.secrets.iter().try_for_each(check_secret)?;
    }
    if let Some(scope) = &permissions.secret_write {
        check_unique(Permission::SecretWrite, scope.names.iter().map(|name| name.as_str()))?;
    }
    if let Some(scope) = &permissions.memory_read {
        check_unique(
            Permission::MemoryRead,
            scope.namespaces.iter().map(|name| name.as_str()),
        )?;
    }
    if let Some(scope) = &permissions.memory_write {
        check_unique(
            Permission::MemoryWrite,
            scope.namespaces.iter().map(|name| name.as_str()),
        )?;
    }
    if let Some(scope) = &permissions.exec {
        scope.programs.iter().try_for_each(check_program)?;
    }
    Ok(())
}

/// Whether the scopes list no more than a host takes.
fn check_counts(permissions: &Permissions) -> Result<(), ManifestError> {
    let count = |permission| match permission {
        Permission::NetworkRead => permissions.network_read.as_ref().map(|scope| scope.hosts.len()),
        Permission::NetworkWrite => permissions.network_write.as_ref().map(|scope| scope.hosts.len()),
        Permission::FileRead => permissions.file_read.as_ref().map(|scope| scope.paths.len()),
        Permission::FileWrite => permissions.file_write.as_ref().map(|scope| scope.paths.len()),
        Permission::SecretRead => permissions.secret_read.as_ref().map(|scope| {
            // Those of all its secrets together: each of them is checked like a host of its own.
            let hosts = scope.secrets.iter().map(|secret| secret.hosts.len());
            hosts.fold(0, usize::saturating_add)
        }),
        Permission::SecretWrite => permissions.secret_write.as_ref().map(|scope| scope.names.len()),
        Permission::MemoryRead => permissions.memory_read.as_ref().map(|scope| scope.namespaces.len()),
        Permission::MemoryWrite => permissions.memory_write.as_ref().map(|scope| scope.namespaces.len()),
        Permission::Exec => permissions.exec.as_ref().map(|scope| scope.programs.len()),
    };
    for permission in Permission::ALL {
        match count(permission) {
            Some(count) if count > SCOPE_ITEMS_MAX => return Err(ManifestError::ScopeItems { permission, count }),
            Some(_) | None => {}
        }
    }
    match permissions.secret_read.as_ref().map(|scope| scope.secrets.len()) {
        Some(count) if count > SECRETS_MAX => Err(ManifestError::Secrets { count }),
        Some(_) | None => Ok(()),
    }
}

fn check_unique<'a>(permission: Permission, items: impl Iterator<Item = &'a str>) -> Result<(), ManifestError> {
    let mut seen = std::collections::BTreeSet::new();
    for item in items {
        if !seen.insert(item) {
            return Err(ManifestError::ScopeTwice {
                permission,
                item: item.to_owned(),
            });
        }
    }
    Ok(())
}

/// No guest folder may lie in another, across reading and writing: which of two rights holds must not depend on the order
/// in which somebody looks.
fn check_guest_paths(permissions: &Permissions) -> Result<(), ManifestError> {
    let read = permissions
        .file_read
        .iter()
        .flat_map(|scope| &scope.paths)
        .map(|path| &path.guest);
    let write = permissions
        .file_write
        .iter()
        .flat_map(|scope| &scope.paths)
        .map(|path| &path.guest);
    match overlap(read.chain(write)) {
        Some((one, two)) => Err(ManifestError::GuestPathsOverlap { one, two }),
        None => Ok(()),
    }
}

/// No folder that is written to may lie in another one: what a call may write there would be several times what the policy lets
/// it write below one folder. By their names: a manifest does not know what an operator's links lead to.
fn check_written_paths(permissions: &Permissions) -> Result<(), ManifestError> {
    let write = permissions.file_write.iter().flat_map(|scope| &scope.paths);
    match overlap(write.map(|path| &path.host)) {
        Some((one, two)) => Err(ManifestError::HostPathsOverlap { one, two }),
        None => Ok(()),
    }
}

/// Quotas with which nothing can be written are a permission in words alone: whoever reads the manifest would believe it, and no
/// call would get it.
fn check_quotas(permissions: &Permissions) -> Result<(), ManifestError> {
    let mut folders = permissions.file_write.iter().flat_map(|scope| &scope.paths);
    if let Some(path) = folders.find(|path| path.bytes_max == 0 && path.files_max == 0) {
        return Err(ManifestError::FolderQuota {
            guest: path.guest.to_string(),
            host: path.host.to_string(),
        });
    }
    // An empty list is no permission, whatever stands beside it.
    let memory = permissions
        .memory_write
        .iter()
        .filter(|scope| !scope.namespaces.is_empty());
    let mut quotas = memory.flat_map(|scope| [("bytes_max", scope.bytes_max), ("records_max", scope.records_max)]);
    match quotas.find(|(_, most)| *most == 0) {
        Some((key, _)) => Err(ManifestError::MemoryQuota { key }),
        None => Ok(()),
    }
}

/// Two of the folders of which one lies in the other, or is the other.
fn overlap<'a>(paths: impl Iterator<Item = &'a AbsolutePath>) -> Option<(String, String)> {
    let mut paths: Vec<&AbsolutePath> = paths.collect();
    // Sorted by their parts, a folder stands right before what lies in it.
    paths.sort_by_key(|path| {
        path.as_str()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
    });
    paths.windows(2).find_map(|pair| match pair {
        [one, two] if two.is_within(one) => Some((one.to_string(), two.to_string())),
        _ => None,
    })
}

fn check_secret(secret: &SecretScope) -> Result<(), ManifestError> {
    let name = || secret.name.to_string();
    match secret.usage {
        SecretUse::Reveal => {
            let present = [
                ("hosts", !secret.hosts.is_empty()),
                ("header", secret.header.is_some()),
                ("prefix", secret.prefix.is_some()),
            ];
            match present.into_iter().find(|(_, present)| *present) {
                Some((key, _)) => Err(ManifestError::RevealKey { name: name(), key }),
                None => Ok(()),
            }
        }
        SecretUse::Inject => {
            if secret.hosts.is_empty() {
                return Err(ManifestError::InjectKeyMissing {
                    name: name(),
                    key: "hosts",
                });
            }
            if secret.hosts.iter().any(|host| host.is_any()) {
                return Err(ManifestError::InjectAnyHost { name: name() });
            }
            let Some(header) = &secret.header else {
                return Err(ManifestError::InjectKeyMissing {
                    name: name(),
                    key: "header",
                });
            };
            if let Some(reason) = header_problem(header) {
                return Err(ManifestError::InjectHeader {
                    name: name(),
                    header: header.chars().take(HEADER_BYTES_MAX).collect(),
                    reason,
                });
            }
            let printable = |prefix: &String| {
                (1..=HEADER_BYTES_MAX).contains(&prefix.len())
                    && prefix.bytes().all(|byte| (0x20..0x7f).contains(&byte))
            };
            if secret.prefix.as_ref().is_some_and(|prefix| !printable(prefix)) {
                return Err(ManifestError::InjectPrefix { name: name() });
            }
            Ok(())
        }
    }
}

/// How a secret that is injected is written, whole: with the host and the header of an example.
pub(crate) fn injected(name: &str) -> String {
    format!(
        "{{ name = {}, hosts = [\"https://api.example.com\"], header = \"authorization\", prefix = \"Bearer \" }}",
        quoted(name)
    )
}

fn header_problem(header: &str) -> Option<&'static str> {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if header.is_empty() || header.len() > HEADER_BYTES_MAX || !header.bytes().all(token) {
        Some("it is not a header name in lower case")
    } else if fields::holds_no_secret(header) {
        Some("it belongs to the host or the connection")
    } else {
        None
    }
}

fn check_program(program: &ProgramScope) -> Result<(), ManifestError> {
    let short = |pattern: &ArgumentPattern| match pattern {
        ArgumentPattern::Literal(text) => text.len() <= ARGUMENT_BYTES_MAX,
        ArgumentPattern::Integer | ArgumentPattern::Word | ArgumentPattern::Path => true,
    };
    if program.args.len() <= ARGUMENTS_MAX && program.args.iter().all(short) {
        Ok(())
    } else {
        Err(ManifestError::Arguments {
            path: program.path.to_string(),
        })
    }
}
