//! Whether the imports of a component are covered by what its entry asks for, and the lines of `capability.toml` that would
//! cover them. It knows no grant.

use std::fmt;

use aral_contract::Permission::{
    Exec, FileRead, FileWrite, MemoryRead, MemoryWrite, NetworkRead, NetworkWrite, SecretRead, SecretWrite,
};
use aral_contract::{Code, Failure, Permission, Permissions};
use serde::Serialize;

use super::{ABI_VERSION, Role, WASI_VERSION, either};
use crate::inspect::Inspection;

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

/// A governed import without its permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    /// The import.
    pub import: String,
    /// The permissions that would cover it, each alone.
    pub permissions: &'static [Permission],
}

impl fmt::Display for Uncovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, which needs {}", self.import, either(self.permissions))
    }
}

impl Uncovered {
    /// The lines that would cover it. Those of another permission that would do as well are comments: whoever pastes all lines asks for
    /// no more than one.
    fn lines(&self) -> String {
        let mut lines = self.permissions.iter().map(|one| lines_to_add(*one));
        let first = lines.next().unwrap_or_default();
        let others = lines.map(|other| format!("\n# or:\n# {}", other.replace('\n', "\n# ")));
        others.fold(first, |all, other| all + &other)
    }
}

/// Why a component is not admitted for its imports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Governed imports without their permissions.
    #[error("the component imports {}", listed(.0))]
    Uncovered(Vec<Uncovered>),
    /// An import that nobody links.
    #[error("the component imports `{}`, which this host cannot link: {reason}", .import.escape_debug())]
    Unknown {
        /// The import.
        import: String,
        /// Why.
        reason: String,
    },
}

fn listed(uncovered: &[Uncovered]) -> String {
    let all: Vec<String> = uncovered.iter().map(Uncovered::to_string).collect();
    let them = if all.len() == 1 { "it" } else { "them" };
    format!("{}, and its entry does not ask for {them}", all.join(", and "))
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let message = error.to_string();
        match error {
            ImportError::Uncovered(uncovered) => {
                let lines: Vec<String> = uncovered.iter().map(Uncovered::lines).collect();
                Self::new(Code::ImportUncovered, message).with_hint(format!(
                    "add to capability.toml, with your own values:\n{}",
                    lines.join("\n")
                ))
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
    let mut uncovered: Vec<Uncovered> = Vec::new();
    for import in &inspection.imports {
        match &import.role {
            Role::Governed { permissions: needed } if !needed.iter().any(|one| permissions.has(*one)) => {
                // One of those that the same lines would cover stands for all of them.
                if !uncovered.iter().any(|one| one.permissions == *needed) {
                    uncovered.push(Uncovered {
                        import: import.name.clone(),
                        permissions: needed,
                    });
                }
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
    if !uncovered.is_empty() {
        return Err(Failure::from(ImportError::Uncovered(uncovered)));
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
