//! Why `[serve]` is not taken, with the line that repairs it.

use std::net::SocketAddr;
use std::path::PathBuf;

use aral_contract::document::KeyError;
use aral_contract::id::CallerName;
use aral_protocol::admin::AdminError;
use aral_protocol::{KeySetError, TokenAlgorithm};
use aral_runtime::outbound::OutboundError;

use crate::config::OutOfRange;
use crate::config::error::public_key_hint;

/// Why `[serve]` is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ServeConfigError {
    /// A bound that makes no sense.
    #[error(transparent)]
    Bounds(aral_protocol::OutOfRange),
    /// An address that only one of them could have.
    #[error("`{0}` is listened on twice")]
    AddressTwice(SocketAddr),
    /// A port for the management that others could reach, or that anybody on this machine could use.
    #[error(transparent)]
    Admin(AdminError),
    /// Something about certificates of callers, and nothing that says whose they are.
    #[error("[serve.listener.tls] of `{address}` has `{key}` and no `client_ca_file`")]
    NoClientCa {
        /// Which listener.
        address: SocketAddr,
        /// What it has.
        key: &'static str,
    },
    /// Something else than digests of keys. It may be a key.
    #[error(
        "{0}: `keys` has what is not shown, as it may be a key itself, and not the SHA-256 of each: 64 lower-case hex digits"
    )]
    Keys(String),
    /// A key that calls and manages.
    #[error(
        "the caller `{0}` has a key that is one of the `keys` of [serve.admin], too: whoever calls with it could manage the server"
    )]
    KeyOfCaller(CallerName),
    /// Authorities for certificates that the caller does not show.
    #[error("the caller `{0}` has client_ca_files, and no certificates")]
    NoCertificates(CallerName),
    /// A field that nobody writes who is believed.
    #[error("[serve] has forwarded, and no trusted_proxies: nobody who writes that field is believed")]
    NoProxies,
    /// Keys that sign nothing.
    #[error("the caller `{0}` has signature_keys, and nothing says whether it signs")]
    NoSignature(CallerName),
    /// Signatures that nobody could make.
    #[error("the caller `{0}` signs its requests, and has no signature_keys")]
    NoSignatureKeys(CallerName),
    /// A key that is none.
    #[error("the caller `{caller}`: signature_keys `{}`", .path.display())]
    SignatureKey {
        /// Whose.
        caller: CallerName,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: KeyError,
    },
    /// Two entries for one issuer.
    #[error("[[serve.issuer]] `{}` is there twice", .0.escape_debug())]
    IssuerTwice(String),
    /// An issuer that could let nobody in.
    #[error("[[serve.issuer]] `{}` has no {key}", .issuer.escape_debug())]
    Nothing {
        /// Which.
        issuer: String,
        /// What is missing.
        key: &'static str,
    },
    /// No place of keys, or two.
    #[error("[[serve.issuer]] `{}` needs one of jwks_url and jwks_file", .0.escape_debug())]
    KeysPlace(String),
    /// Times for keys that are not fetched.
    #[error("[[serve.issuer]] `{}` has {key}, and the keys in its jwks_file are not fetched", .issuer.escape_debug())]
    NotFetched {
        /// Which.
        issuer: String,
        /// What it has.
        key: &'static str,
    },
    /// An address that keys cannot be fetched from.
    #[error("[[serve.issuer]] `{}`: jwks_url", .issuer.escape_debug())]
    KeysUrl {
        /// Which.
        issuer: String,
        /// What is wrong.
        #[source]
        error: OutboundError,
    },
    /// A file that holds no keys.
    #[error("[[serve.issuer]] `{}`: jwks_file `{}`", .issuer.escape_debug(), .path.display())]
    KeysFile {
        /// Which.
        issuer: String,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: KeySetError,
    },
    /// Keys with which no token can be good.
    #[error(
        "[[serve.issuer]] `{}`: jwks_file `{}` has keys for {}, and `algorithms` has none of these",
        .issuer.escape_debug(),
        .path.display(),
        named(.offered)
    )]
    KeysOfOthers {
        /// Which.
        issuer: String,
        /// Which file.
        path: PathBuf,
        /// What its keys are for.
        offered: Vec<TokenAlgorithm>,
    },
    /// A number that makes no sense.
    #[error("[[serve.issuer]] `{}`", .issuer.escape_debug())]
    IssuerRange {
        /// Which.
        issuer: String,
        /// What is wrong.
        #[source]
        error: OutOfRange,
    },
    /// Text that no token has as a scope.
    #[error("[[serve.issuer]] `{}`: `{}` is no scope", .issuer.escape_debug(), .scope.escape_debug())]
    Scope {
        /// Which.
        issuer: String,
        /// The text.
        scope: String,
    },
}

impl ServeConfigError {
    /// The line that repairs it; none: the message says it.
    pub fn hint(&self) -> Option<String> {
        let line = match self {
            Self::Bounds(_) | Self::IssuerRange { .. } => return None,
            Self::AddressTwice(_) => {
                return Some(
                    "give each [[serve.listener]], and the `address` of [serve.admin], a port of its own; `[::]` alone takes the \
                     addresses of IPv4, too, as long as the system has net.ipv6.bindv6only = 0"
                        .to_owned(),
                );
            }
            Self::Admin(error) => return error.hint(),
            Self::NoClientCa { key, .. } => {
                return Some(format!(
                    "aral.toml, [serve.listener.tls]: client_ca_file = \"clients.pem\", or leave out `{key}`"
                ));
            }
            Self::Keys(_) => {
                return Some(
                    "write in `keys` what `printf %s \"$key\" | sha256sum | cut -d ' ' -f 1` prints; if a key itself stood there and \
                     somebody else could read the file, make another key"
                        .to_owned(),
                );
            }
            Self::KeyOfCaller(_) => {
                return Some(
                    "make another key for one of both: `key=\"aral_$(openssl rand -hex 32)\"; printf %s \"$key\" | sha256sum | cut -d ' ' -f 1` \
                     prints what its `keys` need"
                        .to_owned(),
                );
            }
            Self::NoCertificates(_) => {
                "[[serve.caller]]: certificates = [\"uri:spiffe://example.org/caller\"], or leave out `client_ca_files`"
                    .to_owned()
            }
            Self::NoProxies => "[serve]: trusted_proxies = [\"10.0.0.0/8\"], or leave out `forwarded`".to_owned(),
            Self::NoSignature(_) => "[[serve.caller]]: signature = \"required\"".to_owned(),
            Self::NoSignatureKeys(_) => "[[serve.caller]]: signature_keys = [\"caller.pub.pem\"]".to_owned(),
            Self::SignatureKey { error, .. } => return Some(public_key_hint(error).to_owned()),
            Self::IssuerTwice(_) => return Some("write one [[serve.issuer]] with the scopes of both".to_owned()),
            Self::Nothing { key, .. } => match *key {
                "audiences" => "[[serve.issuer]]: audiences = [\"https://HOST\"], as in [serve] resource".to_owned(),
                "algorithms" => "[[serve.issuer]]: algorithms = [\"RS256\"]".to_owned(),
                "types" => "[[serve.issuer]]: types = [\"at+jwt\"]".to_owned(),
                _ => "[[serve.issuer.scope]]: scope = \"aral:agent\" and persona = \"persona.json\"".to_owned(),
            },
            Self::NotFetched { key, .. } => {
                return Some(format!(
                    "leave out `{key}`; a file is read with the configuration, at the start and by `aral reload`"
                ));
            }
            Self::KeysPlace(_) | Self::KeysUrl { .. } => {
                "[[serve.issuer]]: jwks_url = \"https://HOST/jwks\", or http:// on this machine".to_owned()
            }
            Self::KeysFile {
                error: KeySetError::Private(_),
                ..
            } => {
                return Some(
                    "leave the private members out of the file: `d`, and of RSA `p`, `q`, `dp`, `dq` and `qi`; if somebody else could read \
                     it, have the issuer make another key"
                        .to_owned(),
                );
            }
            Self::KeysOfOthers { offered, .. } => match offered.first() {
                Some(one) => format!("[[serve.issuer]]: algorithms = [\"{}\"]", one.as_str()),
                None => {
                    "[[serve.issuer]]: jwks_file = \"jwks.json\", a file with the keys that sign its tokens".to_owned()
                }
            },
            Self::KeysFile { .. } => "[[serve.issuer]]: jwks_file = \"jwks.json\"".to_owned(),
            Self::Scope { .. } => {
                "[[serve.issuer.scope]]: scope = \"aral:agent\", which is visible ASCII without spaces, \
                                   quotation marks and backslashes (RFC 6749)"
                    .to_owned()
            }
        };
        Some(format!("aral.toml, {line}"))
    }
}

/// In words; the keys may say that they are for something else than tokens are signed with.
fn named(algorithms: &[TokenAlgorithm]) -> String {
    let names: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
    if names.is_empty() {
        "no algorithm of tokens".to_owned()
    } else {
        names.join(", ")
    }
}
