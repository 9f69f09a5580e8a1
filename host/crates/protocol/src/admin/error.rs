//! Why there is no management listener, with the line that repairs it.

use std::net::SocketAddr;

use aral_contract::{Code, Failure};
use aral_runtime::files::FilesError;

/// Why there is no management listener.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The socket cannot be made.
    #[error("the management socket cannot be opened")]
    Socket(#[source] FilesError),
    /// An address that others can reach.
    #[error("the management address `{0}` is not of the loopback")]
    Exposed(SocketAddr),
    /// A port that anybody on this machine could use.
    #[error("the management address `{0}` needs a key, and there is none")]
    NoKey(SocketAddr),
    /// The system refuses.
    #[error("the management address `{address}` cannot be listened on")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

impl AdminError {
    /// The line that repairs it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Socket(FilesError::Mode { path, wanted, .. }) => Some(format!("chmod {wanted} {}", path.display())),
            Self::Socket(FilesError::Exists { path }) => Some(format!(
                "remove `{}`, or in aral.toml, [serve.admin]: socket = \"…\"",
                path.display()
            )),
            Self::Socket(FilesError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
                Some("end the server that runs, or in aral.toml, [serve.admin]: socket = \"…\"".to_owned())
            }
            Self::Socket(_) => Some("aral.toml, [serve.admin]: socket = \"…\"".to_owned()),
            Self::Exposed(address) => Some(format!(
                "aral.toml, [serve.admin]: address = \"127.0.0.1:{}\"",
                address.port()
            )),
            Self::NoKey(_) => Some("aral.toml, [serve.admin]: keys = [\"SHA-256 of a key\"]".to_owned()),
            Self::Listen { .. } => {
                Some("take another port in aral.toml, [serve.admin]: address = \"127.0.0.1:…\"".to_owned())
            }
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            words.push_str(&format!(": {error}"));
            cause = error.source();
        }
        let failure = Self::new(Code::ConfigInvalid, words);
        match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}
