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
    /// Whose fault it is. Another process may leave the place soon.
    fn code(&self) -> Code {
        match self {
            Self::Socket(FilesError::Io { source, .. }) | Self::Listen { source, .. }
                if source.kind() == std::io::ErrorKind::AddrInUse =>
            {
                Code::Unavailable
            }
            _ => Code::ConfigInvalid,
        }
    }

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
        let failure = Self::new(error.code(), words);
        match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_place_that_another_process_has_may_be_free_soon() {
        let codes = |kind: io::ErrorKind| {
            let socket = AdminError::Socket(FilesError::Io {
                action: "make",
                path: "/run/aral/admin.sock".into(),
                source: kind.into(),
            });
            let port = AdminError::Listen {
                address: ([127, 0, 0, 1], 9090).into(),
                source: kind.into(),
            };
            [socket, port].map(|error| Failure::from(error).code)
        };
        assert_eq!(codes(io::ErrorKind::AddrInUse), [Code::Unavailable; 2]);
        assert_eq!(codes(io::ErrorKind::PermissionDenied), [Code::ConfigInvalid; 2]);
    }
}
