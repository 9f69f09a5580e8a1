//! What is needed to reach a server and to log in, and the checks that need no server. It sends nothing.

use std::path::PathBuf;
use std::sync::Arc;

use aral_contract::SecretValue;
use aral_contract::failure::chain;
use aral_runtime::files;
use aral_runtime::outbound::{Outbound, OutboundError};
use tokio::task::spawn_blocking;

use super::VaultFailure;
use crate::secret::EnvironmentSecrets;

/// Longest token or secret id, in bytes. Stops a file that is something else.
const CREDENTIAL_BYTES_MAX: u64 = 8 << 10;

/// How to reach a server.
#[derive(Debug)]
pub struct VaultOptions {
    /// Where it is, such as `https://vault.example.com:8200`. Plain `http` is taken for this machine alone.
    pub address: String,
    /// How requests to it leave the machine.
    pub outbound: Outbound,
    /// Certificates in PEM form of the authorities that may vouch for it; none: those of the system and of `outbound`. Given
    /// ones are the only ones.
    pub authorities_pem: Option<Vec<u8>>,
    /// Its namespace, such as `team-a`.
    pub namespace: Option<String>,
    /// Who asks.
    pub login: VaultLogin,
    /// How long one read or write may take in all, logins included.
    pub timeout_ms: u64,
}

/// Who asks.
#[derive(Debug)]
pub enum VaultLogin {
    /// Whoever holds this token.
    Token(Credential),
    /// A role of machines.
    AppRole {
        /// Where the login is mounted, mostly `approle`.
        mount: String,
        /// The role.
        role_id: String,
        /// Its secret.
        secret_id: Credential,
    },
}

/// A token or the secret of a role.
#[derive(Debug)]
pub enum Credential {
    /// A variable that was taken. It is opened at each login and lies encrypted between them.
    Taken {
        /// All that were taken.
        variables: Arc<EnvironmentSecrets>,
        /// Its name.
        name: String,
    },
    /// A private file, which is read anew at each login, so that it can be replaced while the host runs.
    File(PathBuf),
    /// For tests: a file on a mount that hangs as long as somebody holds this.
    #[cfg(test)]
    Hangs(Arc<std::sync::Mutex<()>>),
}

impl Credential {
    /// A file may lie on a mount that hangs, and this thread is the one of every exchange and of its time: another one waits.
    pub(super) async fn read(&self) -> Result<SecretValue, VaultFailure> {
        let bytes = match self {
            Self::Taken { variables, name } => {
                let value = variables.get(name);
                let value =
                    value.ok_or_else(|| VaultFailure::refused(format!("the variable `{name}` was not taken")))?;
                value.expose().trim_ascii().to_vec()
            }
            Self::File(path) => {
                let path = path.clone();
                let read = move || files::read_private(&path, CREDENTIAL_BYTES_MAX);
                let read = spawn_blocking(read).await.map_err(|_| VaultFailure::ended())?;
                read.map_err(|error| VaultFailure::refused(chain(&error)))?
                    .trim_ascii()
                    .to_vec()
            }
            #[cfg(test)]
            Self::Hangs(mount) => {
                let mount = Arc::clone(mount);
                let read = move || drop(mount.lock());
                spawn_blocking(read).await.map_err(|_| VaultFailure::ended())?;
                b"t".to_vec()
            }
        };
        let value = SecretValue::new(bytes);
        let length = value.expose().len();
        if u64::try_from(length).is_ok_and(|length| length > CREDENTIAL_BYTES_MAX) {
            return Err(VaultFailure::refused(format!(
                "the token or secret id has {length} bytes, more than {CREDENTIAL_BYTES_MAX}"
            )));
        }
        if !value.expose().is_empty() && value.expose().iter().all(u8::is_ascii_graphic) {
            Ok(value)
        } else {
            Err(VaultFailure::refused(
                "the token or secret id is empty, or has characters that none has",
            ))
        }
    }
}

/// A server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The address is none, or plain `http` to another machine.
    #[error("the Vault server cannot be spoken to; write https://HOST:PORT")]
    Server(#[source] OutboundError),
    /// There is no usable certificate, or no client.
    #[error("the Vault server cannot be spoken to")]
    Client(#[source] OutboundError),
    /// An option has a value that no server has.
    #[error("`{}` cannot be {what}: parts of A-Z a-z 0-9 - _ . with / between them", .text.escape_debug())]
    Name {
        /// What was given, cut.
        text: String,
        /// What it should have been.
        what: &'static str,
    },
    /// The system gives no thread.
    #[error("the thread for the Vault server cannot be started")]
    Thread(#[source] std::io::Error),
    /// The server does not do what it should.
    #[error("the Vault server is of no use: {0}")]
    Check(String),
}

/// A path whose parts mean nothing but themselves in a URL.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    path.len() <= 2048
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain))
}

/// The path, or an error that says what it should have been.
pub(super) fn plain_path<'a>(path: &'a str, what: &'static str) -> Result<&'a str, VaultError> {
    if is_plain_path(path) {
        return Ok(path);
    }
    Err(VaultError::Name {
        text: path.chars().take(128).collect(),
        what,
    })
}
