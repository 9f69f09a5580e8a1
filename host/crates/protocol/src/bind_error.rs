//! Why a server does not listen as its configuration says, with the line that repairs it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use aral_contract::id::CallerName;

use crate::tls::{CertificateName, OcspError, TlsError};

/// Why a server does not start, or does not take another configuration.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Nowhere to listen.
    #[error("there is no listener")]
    NoListener,
    /// An address that others can reach, without what that needs.
    #[error("`{address}` is not of the loopback, and {}", listed(.lacks, " and ", Lack::as_str))]
    Exposed {
        /// Which.
        address: SocketAddr,
        /// What it lacks.
        lacks: Vec<Lack>,
    },
    /// Files of TLS that are not taken.
    #[error("there is no TLS for the listener of `{address}`")]
    Tls {
        /// Which listener.
        address: SocketAddr,
        /// Why not.
        source: Box<TlsError>,
    },
    /// Nobody of that name.
    #[error("the listener of `{address}` takes whoever says nothing for `{name}`, and there is no such caller")]
    NoCaller {
        /// Which listener.
        address: SocketAddr,
        /// Who.
        name: CallerName,
    },
    /// A name in certificates that more authorities could give than somebody may have meant.
    #[error(
        "the caller `{caller}` goes by `{certificate}`, which each authority that a listener believes can write into a certificate: those of {}",
        paths(.files)
    )]
    Authorities {
        /// Who.
        caller: CallerName,
        /// By which name.
        certificate: CertificateName,
        /// The authorities.
        files: Vec<PathBuf>,
    },
    /// Authorities that are believed nowhere.
    #[error("the caller `{caller}` has `{}` among its client_ca_files, and no listener has that client_ca_file", .file.display())]
    NoAuthority {
        /// Who.
        caller: CallerName,
        /// Whose.
        file: PathBuf,
    },
    /// A listener holds a place for its next connection: of fewer places than listeners, one of them would have none for ever.
    #[error(
        "there are {listeners} listeners, and connections_max = {connections_max} is less than one connection for each"
    )]
    Places {
        /// How many listeners.
        listeners: usize,
        /// How many connections.
        connections_max: u64,
    },
    /// Other listeners than there are.
    #[error("where the server listens cannot change while it runs")]
    Moved,
    /// Limits that are kept elsewhere.
    #[error("where limits are kept that servers share cannot change while it runs")]
    LimitsMoved,
    /// A server of limits that cannot be spoken to as it should be.
    #[error("the limits cannot be kept in Redis")]
    Redis(#[source] redis::RedisError),
    /// Tokens for nothing.
    #[error("there are issuers of tokens, and no `resource` that clients could ask them for")]
    NoResource,
    /// The system refuses.
    #[error("`{address}` cannot be listened on")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl BindError {
    /// Whether the same configuration may do soon: somebody else has the address, or it is not there yet; or the certificate or its OCSP
    /// response is not in its time, or the responder had no answer, or the response is that of the certificate before, and a program
    /// renews them.
    pub fn is_for_now(&self) -> bool {
        match self {
            Self::Tls { source, .. } => matches!(
                **source,
                TlsError::Time { .. }
                    | TlsError::Ocsp {
                        source: OcspError::Time | OcspError::Unsuccessful | OcspError::Other,
                        ..
                    }
            ),
            Self::Listen { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// The line that repairs it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoListener => Some("aral.toml, [[serve.listener]]: address = \"127.0.0.1:8080\"".to_owned()),
            Self::Exposed { lacks, .. } => Some(format!("aral.toml, {}", listed(lacks, "; ", Lack::line))),
            Self::Tls { source, .. } => Some(source.hint()),
            Self::NoCaller { name, .. } => Some(format!(
                "aral.toml, [[serve.caller]]: name = \"{name}\" and persona = \"persona.json\""
            )),
            Self::Authorities { caller, files, .. } => {
                let file = files.first().map(|file| file.display().to_string());
                Some(format!(
                    "aral.toml, [[serve.caller]] `{caller}`: client_ca_files = [\"{}\"], the files of those who may name it; or name \
                     its certificates by `sha256:` alone",
                    file.unwrap_or_default()
                ))
            }
            Self::NoAuthority { file, .. } => Some(format!(
                "aral.toml, [serve.listener.tls]: client_ca_file = \"{}\"; or take it out of client_ca_files",
                file.display()
            )),
            Self::Places { listeners, .. } => Some(format!(
                "aral.toml, [serve.limits]: connections_max = {listeners}, or more"
            )),
            Self::LimitsMoved => Some("restart it, or leave [serve.rates.redis] as it was".to_owned()),
            Self::Moved => Some("restart it, or leave the `address` of each [[serve.listener]] as it was".to_owned()),
            Self::NoResource => {
                Some("aral.toml, [serve]: resource = \"https://HOST\", the address that callers use".to_owned())
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there: stop it, or take another port".to_owned())
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("aral.toml, [[serve.listener]]: address = \"IP:PORT\", IP an address of this machine".to_owned())
            }
            Self::Listen { .. } => None,
            Self::Redis(_) => Some("[serve.rates.redis] ca_file names certificates as PEM".to_owned()),
        }
    }
}

/// What an address that others reach needs, and does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Nothing keeps the connection from being read and changed.
    Tls,
    /// Whoever says nothing is somebody.
    Authentication,
    /// Nobody can show who they are.
    Callers,
}

impl Lack {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "without TLS whoever is on the way reads and changes everything",
            Self::Authentication => "with `anonymous` whoever reaches it may call",
            Self::Callers => "no caller can show there who it is",
        }
    }

    /// The line that repairs it.
    fn line(self) -> &'static str {
        match self {
            Self::Tls => {
                "[serve.listener.tls]: certificate_file = \"chain.pem\" and key_file = \"key.pem\"; or an address of the loopback, behind a proxy that speaks TLS"
            }
            Self::Authentication => "[[serve.listener]] without `anonymous`",
            Self::Callers => "[[serve.caller]]: keys = [\"SHA-256 of a key\"]",
        }
    }
}

fn paths(files: &[PathBuf]) -> String {
    let words: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
    words.join(" and ")
}

fn listed(lacks: &[Lack], between: &str, word: fn(Lack) -> &'static str) -> String {
    let words: Vec<&str> = lacks.iter().map(|lack| word(*lack)).collect();
    words.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_machine_is_refused_with_the_line_to_write() {
        let refused = BindError::Listen {
            address: ([192, 0, 2, 1], 8799).into(),
            source: io::Error::from(io::ErrorKind::AddrNotAvailable),
        };
        assert!(refused.hint().unwrap().contains("address = "), "{refused}");
    }

    #[test]
    fn what_may_do_soon_is_told_from_what_somebody_has_to_change() {
        let refused = |kind| BindError::Listen {
            address: ([192, 0, 2, 1], 443).into(),
            source: io::Error::from(kind),
        };
        for (kind, is_for_now) in [
            (io::ErrorKind::AddrInUse, true),
            (io::ErrorKind::AddrNotAvailable, true),
            (io::ErrorKind::PermissionDenied, false),
        ] {
            assert_eq!(refused(kind).is_for_now(), is_for_now, "{kind}");
        }
        let tls = |source| BindError::Tls {
            address: ([192, 0, 2, 1], 443).into(),
            source: Box::new(source),
        };
        let over = TlsError::Time {
            path: "chain.pem".into(),
            from: "then".to_owned(),
            to: "now".to_owned(),
            valid: 0..=1,
        };
        assert!(tls(over).is_for_now());
        for (source, is_for_now) in [
            (OcspError::Time, true),
            (OcspError::Unsuccessful, true),
            (OcspError::Other, true),
            (OcspError::Form, false),
        ] {
            let path = "ocsp.der".into();
            assert_eq!(tls(TlsError::Ocsp { path, source }).is_for_now(), is_for_now);
        }
        assert!(!tls(TlsError::KeyKind { path: "key.pem".into() }).is_for_now());
        assert!(!BindError::NoListener.is_for_now());
    }
}
