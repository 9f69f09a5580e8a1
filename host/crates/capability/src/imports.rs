//! What each import of a component means: which permission it opens, whether it is always there, or never. One table,
//! read by inspection, by the check at admission and by the linker. It knows no component and no grant.
//!
//! `wasi:http/types`, `wasi:io` and `aral:capability/types` only define the words that other interfaces use: they are
//! always linked and open nothing by themselves (a request that is built and never sent reaches nobody). The baseline
//! that every wasip2 program imports (files, sockets, environment, clocks, randomness, standard streams) is always
//! linked too, and is empty or denying unless a permission fills it.

use aral_contract::{Code, Failure, Permission, Permissions};
use semver::Version;
use serde::Serialize;

use crate::inspect::Inspection;

/// The version of the WASI interfaces that the host links.
pub const WASI_VERSION: Version = Version::new(0, 2, 12);
/// The version of the ABI that the host links.
pub const ABI_VERSION: Version = Version::new(1, 0, 0);

/// What an import means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Role {
    /// Needs one of these permissions at least, or the component is not admitted. Two: decided at each call.
    Governed {
        /// The permissions it opens.
        permissions: &'static [Permission],
    },
    /// Always linked, empty until one of these permissions fills it. Every std program imports it, so that the import
    /// alone does not show whether it is used.
    Shared {
        /// The permissions that fill it.
        permissions: &'static [Permission],
    },
    /// Always linked, and it reaches nothing: the clock, random numbers, an empty environment, sockets that refuse.
    Harmless {
        /// What it answers.
        note: &'static str,
    },
    /// Always linked: words that other interfaces use.
    Types,
    /// Not linked: a component with it cannot run here.
    Unknown {
        /// Why, and what would help.
        reason: String,
    },
}

impl Role {
    /// The permissions that the import opens.
    pub fn permissions(&self) -> &'static [Permission] {
        match self {
            Self::Governed { permissions } | Self::Shared { permissions } => permissions,
            Self::Harmless { .. } | Self::Types | Self::Unknown { .. } => &[],
        }
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Governed { permissions: [one] } => format!("needs {one}"),
            Self::Governed { permissions } => format!("needs {}, decided per call", either(permissions)),
            Self::Shared { permissions } => {
                format!("{}, decided per call; empty without", either(permissions))
            }
            Self::Harmless { note } => (*note).to_owned(),
            Self::Types => "types only".to_owned(),
            Self::Unknown { reason } => format!("not linkable: {reason}"),
        }
    }
}

fn either(permissions: &[Permission]) -> String {
    let names: Vec<&str> = permissions.iter().map(|one| one.as_str()).collect();
    names.join(" or ")
}

use Permission::{
    Exec, FileRead, FileWrite, MemoryRead, MemoryWrite, NetworkRead, NetworkWrite, SecretRead, SecretWrite,
};

const fn governed(permissions: &'static [Permission]) -> Role {
    Role::Governed { permissions }
}

const fn harmless(note: &'static str) -> Role {
    Role::Harmless { note }
}

const FILES: Role = Role::Shared {
    permissions: &[FileRead, FileWrite],
};
const SOCKETS: Role = harmless("refuses every address and name: requests go through wasi:http");
const CLOCK: Role = harmless("tells the time");
const RANDOM: Role = harmless("random numbers");
const TERMINAL: Role = harmless("no terminal");

/// The function of `aral:capability/secret-read` that hands out a value.
pub(crate) const REVEAL: &str = "[method]secret.reveal";

/// Interfaces of the ABI, without package and version.
static ABI: [(&str, Role); 8] = [
    ("types", Role::Types),
    ("log", harmless("log lines of the call")),
    (
        "context",
        harmless("trace id, deadline, names of persona and capability"),
    ),
    ("memory-read", governed(&[MemoryRead])),
    ("memory-write", governed(&[MemoryWrite])),
    ("secret-read", governed(&[SecretRead])),
    ("secret-write", governed(&[SecretWrite])),
    ("exec", governed(&[Exec])),
];

/// Interfaces of WASI, without namespace and version.
static WASI: [(&str, Role); 29] = [
    ("http/outgoing-handler", governed(&[NetworkRead, NetworkWrite])),
    ("http/types", Role::Types),
    ("filesystem/types", FILES),
    ("filesystem/preopens", FILES),
    ("io/error", Role::Types),
    ("io/poll", Role::Types),
    ("io/streams", Role::Types),
    ("clocks/monotonic-clock", CLOCK),
    ("clocks/wall-clock", CLOCK),
    ("random/random", RANDOM),
    ("random/insecure", RANDOM),
    ("random/insecure-seed", RANDOM),
    ("cli/environment", harmless("no variable; no argument")),
    ("cli/exit", harmless("ends the call")),
    ("cli/stdin", harmless("the input of a command; empty for a tool")),
    ("cli/stdout", harmless("the answer of a command; dropped for a tool")),
    ("cli/stderr", harmless("log lines of the call")),
    ("cli/terminal-input", TERMINAL),
    ("cli/terminal-output", TERMINAL),
    ("cli/terminal-stdin", TERMINAL),
    ("cli/terminal-stdout", TERMINAL),
    ("cli/terminal-stderr", TERMINAL),
    ("sockets/network", SOCKETS),
    ("sockets/instance-network", SOCKETS),
    ("sockets/ip-name-lookup", SOCKETS),
    ("sockets/tcp", SOCKETS),
    ("sockets/tcp-create-socket", SOCKETS),
    ("sockets/udp", SOCKETS),
    ("sockets/udp-create-socket", SOCKETS),
];

/// Splits `package/interface@1.2.3` into the name and the version.
pub(crate) fn split_version(name: &str) -> (&str, Option<Version>) {
    match name.split_once('@') {
        Some((front, version)) => match Version::parse(version) {
            Ok(version) => (front, Some(version)),
            Err(_) => (name, None),
        },
        None => (name, None),
    }
}

/// Whether an import of version `wanted` is linked to what the host has as `ours`: by wasmtime's rule, the same major
/// version, or the same minor one below 1.0.0, and no pre-releases.
pub(crate) fn is_compatible(wanted: &Version, ours: &Version) -> bool {
    let same_track = if ours.major == 0 {
        wanted.major == 0 && wanted.minor == ours.minor
    } else {
        wanted.major == ours.major
    };
    wanted == ours || (wanted.pre.is_empty() && same_track)
}

/// What the import of an interface means, by its full name such as `wasi:http/types@0.2.3`.
pub fn role_of(name: &str) -> Role {
    let (front, version) = split_version(name);
    let (table, interface, ours): (&[(&str, Role)], &str, &Version) =
        if let Some(interface) = front.strip_prefix("aral:capability/") {
            (&ABI, interface, &ABI_VERSION)
        } else if let Some(interface) = front.strip_prefix("wasi:") {
            (&WASI, interface, &WASI_VERSION)
        } else if front == "wasi_snapshot_preview1" || front == "wasi_unstable" {
            return unknown("it is WASI preview 1: wrap the module with the preview 1 adapter".to_owned());
        } else {
            return unknown("the host knows no such interface".to_owned());
        };
    let Some((_, role)) = table.iter().find(|(known, _)| *known == interface) else {
        return unknown("the host has no such interface".to_owned());
    };
    match version {
        Some(version) if is_compatible(&version, ours) => role.clone(),
        Some(_) | None => unknown(format!("the host has version {ours}")),
    }
}

fn unknown(reason: String) -> Role {
    Role::Unknown { reason }
}

/// Something that does not stop an admission and that a person should see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What is odd: a lower-case fragment.
    pub message: String,
    /// The exact line that ends it.
    pub hint: String,
}

/// The lines for `capability.toml` that ask for a permission, with an example of a narrow scope. They can stand at the end
/// of the file.
pub fn lines_to_add(permission: Permission) -> String {
    let scope = match permission {
        NetworkRead | NetworkWrite => r#"hosts = ["https://api.example.com"]"#,
        FileRead => r#"paths = [{ guest = "/data", host = "/srv/data" }]"#,
        FileWrite => r#"paths = [{ guest = "/out", host = "/srv/out", bytes_max = 1048576, files_max = 10 }]"#,
        SecretRead => {
            r#"secrets = [{ name = "api-token", hosts = ["https://api.example.com"], header = "authorization", prefix = "Bearer " }]"#
        }
        SecretWrite => r#"names = ["api-token"]"#,
        MemoryRead => r#"namespaces = ["notes"]"#,
        MemoryWrite => "namespaces = [\"notes\"]\nbytes_max = 1048576\nrecords_max = 1000",
        Exec => r#"programs = [{ path = "/usr/bin/date", args = [] }]"#,
    };
    format!("{}\n{scope}", table_header(permission))
}

/// The line above the scope of a permission in `capability.toml`.
fn table_header(permission: Permission) -> String {
    match permission {
        Exec => "[permissions.exec]".to_owned(),
        NetworkRead | NetworkWrite | FileRead | FileWrite | SecretRead | SecretWrite | MemoryRead | MemoryWrite => {
            format!("[permissions.\"{permission}\"]")
        }
    }
}

/// Why a component is not admitted for its imports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A governed import without its permission.
    #[error("the component imports `{import}`, which needs {}, and its entry does not ask for it", either(.permissions))]
    Uncovered {
        /// The import.
        import: String,
        /// The permissions that would cover it.
        permissions: &'static [Permission],
    },
    /// An import that nobody links.
    #[error("the component imports `{}`, which this host cannot link: {reason}", .import.escape_debug())]
    Unknown {
        /// The import.
        import: String,
        /// Why.
        reason: String,
    },
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let message = error.to_string();
        match error {
            ImportError::Uncovered { permissions, .. } => {
                let lines: Vec<String> = permissions.iter().map(|one| lines_to_add(*one)).collect();
                Self::new(Code::ImportUncovered, message)
                    .with_hint(format!("add to capability.toml:\n{}", lines.join("\nor:\n")))
            }
            ImportError::Unknown { .. } => Self::new(Code::ComponentInvalid, message).with_hint(format!(
                "build it against WASI {WASI_VERSION} (target wasm32-wasip2) and aral:capability@{ABI_VERSION}, or remove what uses the import"
            )),
        }
    }
}

/// Whether every governed import of a component is covered by the permissions of its entry, and every import can be
/// linked. Warns of permissions that no import can use.
pub fn check_imports(inspection: &Inspection, permissions: &Permissions) -> Result<Vec<Warning>, Failure> {
    for import in &inspection.imports {
        match &import.role {
            Role::Governed { permissions: needed } if !needed.iter().any(|one| permissions.has(*one)) => {
                return Err(Failure::from(ImportError::Uncovered {
                    import: import.name.clone(),
                    permissions: needed,
                }));
            }
            Role::Unknown { reason } => {
                return Err(Failure::from(ImportError::Unknown {
                    import: import.name.clone(),
                    reason: reason.clone(),
                }));
            }
            Role::Governed { .. } | Role::Shared { .. } | Role::Harmless { .. } | Role::Types => {}
        }
    }
    let unused = |one: &Permission| !inspection.permissions.contains(one);
    Ok(permissions
        .present()
        .into_iter()
        .filter(unused)
        .map(|permission| Warning {
            message: format!("the entry asks for {permission}, and no import of the component can use it"),
            hint: format!("remove from capability.toml: {}", table_header(permission)),
        })
        .collect())
}

#[cfg(test)]
mod tests;
