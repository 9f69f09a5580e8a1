//! The host's own requests: to servers that the operator names, never to one that a guest names. One place says how they
//! leave the machine: through which proxy, trusting whom, within which time. It knows no server and no protocol beyond that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::{Certificate, Proxy, Response, Url, redirect, tls};

/// Longest wait for a connection, however long the whole may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest text that a message repeats, in characters.
const SHOWN_MAX: usize = 128;

/// What an operator says of the host's own requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundOptions {
    /// The proxy, `http://HOST:PORT`, that requests to other machines go through (`CONNECT`, RFC 9110 section 9.3.6); none: they
    /// go directly. Variables such as `HTTPS_PROXY` are not looked at.
    pub proxy: Option<String>,
    /// What is reached without it: names (and those below them), addresses and networks. This machine always is.
    pub no_proxy: Vec<String>,
    /// Certificates in PEM form to trust besides the system's, such as that of a proxy that looks into TLS.
    pub ca_pem: Option<Vec<u8>>,
}

/// Why such requests cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// No address of a server.
    #[error("`{}` is of no use: {reason}", .text.escape_debug())]
    Address {
        /// What was given, cut, without user and password.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No address of a proxy.
    #[error("`{}` is no proxy: write http://HOST:PORT, without user and password", .0.escape_debug())]
    Proxy(String),
    /// Nothing that could be reached without a proxy.
    #[error("`{}` is no name, address or network", .0.escape_debug())]
    NoProxy(String),
    /// No certificate.
    #[error("there is no certificate in PEM form")]
    Authorities(#[source] Option<reqwest::Error>),
    /// The client cannot be made.
    #[error("the client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// A server that may be spoken to: by https, or by http on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    url: Url,
    local: bool,
}

impl ServerUrl {
    /// Takes an absolute URL.
    ///
    /// # Errors
    /// [`OutboundError::Address`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, OutboundError> {
        let wrong = |reason| OutboundError::Address {
            text: shown(text),
            reason,
        };
        let url = Url::parse(text).map_err(|_| wrong("it is no URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a user or password in it"));
        }
        if url.fragment().is_some() {
            return Err(wrong("it has a fragment"));
        }
        let host = host_of(&url).ok_or_else(|| wrong("it has no host"))?;
        let local = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        match url.scheme() {
            "https" => Ok(Self { url, local }),
            "http" if local => Ok(Self { url, local }),
            "http" => Err(wrong("plain http would show everything to whoever is on the way")),
            _ => Err(wrong("its scheme is not https")),
        }
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The same server, an error where the address says more than which server it is.
    ///
    /// # Errors
    /// [`OutboundError::Address`] if it has a query.
    pub fn without_query(self) -> Result<Self, OutboundError> {
        self.without(|url| url.query().is_some(), "it has a query")
    }

    /// The same.
    ///
    /// # Errors
    /// [`OutboundError::Address`] if it has a path or query.
    pub fn without_path(self) -> Result<Self, OutboundError> {
        self.without(
            |url| url.path() != "/" || url.query().is_some(),
            "it has a path or query",
        )
    }

    fn without(self, has: fn(&Url) -> bool, reason: &'static str) -> Result<Self, OutboundError> {
        if has(&self.url) {
            let text = shown(self.url.as_str());
            return Err(OutboundError::Address { text, reason });
        }
        Ok(self)
    }
}

/// What stands before an `@` may be a password.
fn shown(text: &str) -> String {
    text.rsplit('@')
        .next()
        .unwrap_or_default()
        .chars()
        .take(SHOWN_MAX)
        .collect()
}

/// The host, an address of IPv6 without its brackets.
fn host_of(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

/// What may be reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Direct {
    /// A name and every one below it, in lower case.
    Name(String),
    Network(IpNet),
}

impl Direct {
    fn parse(text: &str) -> Result<Self, OutboundError> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let name = text.strip_prefix('.').unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !name.is_empty() && name.bytes().all(plain) {
            return Ok(Self::Name(name.to_ascii_lowercase()));
        }
        Err(OutboundError::NoProxy(text.chars().take(SHOWN_MAX).collect()))
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Name(name) => {
                host == name
                    || host
                        .strip_suffix(name.as_str())
                        .is_some_and(|before| before.ends_with('.'))
            }
            Self::Network(network) => host.parse().is_ok_and(|address: IpAddr| network.contains(&address)),
        }
    }
}

/// How the host's own requests leave the machine. The default is directly, trusting whom the system trusts.
#[derive(Debug, Clone, Default)]
pub struct Outbound {
    options: OutboundOptions,
    proxy: Option<Proxy>,
    direct: Vec<Direct>,
    authorities: Vec<Certificate>,
}

impl Outbound {
    /// Takes what the operator says.
    ///
    /// # Errors
    /// [`OutboundError`] says which option is wrong.
    pub fn new(options: &OutboundOptions) -> Result<Self, OutboundError> {
        Ok(Self {
            options: options.clone(),
            proxy: options.proxy.as_deref().map(proxy).transpose()?,
            direct: options
                .no_proxy
                .iter()
                .map(|text| Direct::parse(text))
                .collect::<Result<_, _>>()?,
            authorities: options
                .ca_pem
                .as_deref()
                .map(authorities)
                .transpose()?
                .unwrap_or_default(),
        })
    }

    /// What it was made from.
    pub fn options(&self) -> &OutboundOptions {
        &self.options
    }

    /// A client for one server. `authorities_pem` are the only ones that may vouch for it; none: those of the system and of
    /// the operator. `timeout` is for a request as a whole.
    ///
    /// # Errors
    /// [`OutboundError::Authorities`] and [`OutboundError::Client`].
    pub fn client(
        &self,
        server: &ServerUrl,
        authorities_pem: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<reqwest::Client, OutboundError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_rustls()
            .tls_version_min(tls::Version::TLS_1_2)
            .tls_sslkeylogfile(false)
            .https_only(server.url.scheme() == "https")
            // A redirect would carry credentials to whatever it names.
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .timeout(timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(concat!("aral/", env!("CARGO_PKG_VERSION")));
        builder = match &self.proxy {
            Some(proxy) if !self.is_direct(server) => builder.proxy(proxy.clone()),
            // Nor one that the environment names: it would see the token of a plain connection to this machine.
            Some(_) | None => builder.no_proxy(),
        };
        if server.local
            && let Some(name) = server.url.domain()
        {
            // A name server is not asked where this machine is: plain http is taken because it is here.
            let port = server.url.port_or_known_default().unwrap_or_default();
            let here = [
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ];
            builder = builder.resolve_to_addrs(name, &here);
        }
        builder = match authorities_pem {
            Some(pem) => builder.tls_certs_only(authorities(pem)?),
            None if self.authorities.is_empty() => builder,
            None => builder.tls_certs_merge(self.authorities.clone()),
        };
        builder.build().map_err(OutboundError::Client)
    }

    fn is_direct(&self, server: &ServerUrl) -> bool {
        let host = host_of(&server.url).unwrap_or_default();
        server.local || self.direct.iter().any(|direct| direct.covers(host))
    }
}

fn proxy(text: &str) -> Result<Proxy, OutboundError> {
    let wrong = || OutboundError::Proxy(shown(text));
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain {
        return Err(wrong());
    }
    Proxy::all(url).map_err(|_| wrong())
}

/// Whether a file names authorities.
///
/// # Errors
/// [`OutboundError::Authorities`] where there is no certificate in it.
pub fn check_authorities(pem: &[u8]) -> Result<(), OutboundError> {
    authorities(pem).map(drop)
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, OutboundError> {
    let found = Certificate::from_pem_bundle(pem).map_err(|error| OutboundError::Authorities(Some(error)))?;
    if found.is_empty() {
        return Err(OutboundError::Authorities(None));
    }
    Ok(found)
}

/// The body of an answer, and one byte more than the bound if there is more.
///
/// # Errors
/// The connection breaks, or takes too long.
pub async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > bytes_max {
            body.truncate(bytes_max.saturating_add(1));
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
