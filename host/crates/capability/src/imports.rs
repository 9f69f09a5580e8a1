//! What each import of a component means: which permission it opens, whether it is always there, or never. One table,
//! read by inspection, by the check at admission and by the linker. It knows no component and no grant.
//!
//! `wasi:http/types`, `wasi:io` and `aral:capability/types` only define the words that other interfaces use: they are
//! always linked and open nothing by themselves (a request that is built and never sent reaches nobody). The baseline
//! that every wasip2 program imports (files, sockets, environment, clocks, randomness, standard streams) is always
//! linked too, and is empty or denying unless a permission fills it.

pub mod check;

use aral_contract::Permission;
use semver::Version;
use serde::Serialize;

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

#[cfg(test)]
mod tests;
