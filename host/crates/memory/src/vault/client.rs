//! Sends one request of `vaultrs` and reads its answer, both within bounds. It knows no login.

use std::time::Duration;

use aral_contract::SecretBuffer;
use aral_runtime::outbound::ServerUrl;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, Url};
use rustify::Endpoint;
use zeroize::Zeroizing;

use super::answer::{Answer, VaultFailure, broken, judge};
use super::options::{VaultError, VaultOptions, is_plain_path, plain_path};

/// Largest answer, in bytes: a secret in a KV engine has 1 MiB at most. Stops a server from filling memory.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    namespace: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(options: &VaultOptions) -> Result<Self, VaultError> {
        let url = ServerUrl::parse(&options.address)
            .and_then(ServerUrl::without_path)
            .map_err(VaultError::Server)?;
        let namespace = match options.namespace.as_deref().map(|text| text.trim_matches('/')) {
            Some(text) => {
                let text = plain_path(text, "a namespace")?;
                Some(HeaderValue::from_str(text).map_err(|_| VaultError::Name {
                    text: text.to_owned(),
                    what: "a namespace",
                })?)
            }
            None => None,
        };
        let timeout = Duration::from_millis(options.timeout_ms);
        let http = options
            .outbound
            .client(&url, options.authorities_pem.as_deref(), timeout)
            .map_err(VaultError::Client)?;
        Ok(Self {
            http,
            base: url.url().as_str().trim_end_matches('/').to_owned(),
            namespace,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.base
    }

    /// One request, one answer; anything but success is a failure.
    pub(super) async fn send<E: Endpoint>(
        &self,
        endpoint: &E,
        token: Option<&Zeroizing<String>>,
    ) -> Result<Answer, VaultFailure> {
        let impossible = |_| VaultFailure::refused("the request cannot be made");
        // Some paths of the library begin with a slash, and one with a tab.
        let path = endpoint.path();
        let path = path.trim().trim_start_matches('/');
        if !is_plain_path(path) {
            return Err(VaultFailure::refused(
                "the path has other characters than A-Z a-z 0-9 - _ . /",
            ));
        }
        let url = Url::parse(&format!("{}/v1/{path}", self.base))
            .map_err(|_| VaultFailure::refused("the request cannot be made"))?;
        let method: Method = endpoint.method().into();
        let mut request = self.http.request(method, url).header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token)
                .map_err(|_| VaultFailure::refused("the token has characters that no header can hold"))?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        if let Some(body) = endpoint.body().map_err(impossible)?
            && !body.is_empty()
        {
            // The body may hold a secret: its bytes are erased when the connection has sent them.
            let body = Bytes::from_owner(Zeroizing::new(body));
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(broken)?;
        let status = response.status().as_u16();
        judge(status, read(response).await?)
    }
}

/// A request that holds a secret. It is erased when this is dropped, also when the exchange is given up in the middle.
pub(super) struct Erased<R> {
    request: R,
    erase: fn(&mut R),
}

impl<R> Erased<R> {
    pub(super) fn new(request: R, erase: fn(&mut R)) -> Self {
        Self { request, erase }
    }

    pub(super) fn request(&self) -> &R {
        &self.request
    }
}

impl<R> Drop for Erased<R> {
    fn drop(&mut self) {
        (self.erase)(&mut self.request);
    }
}

/// The body, up to the bound.
async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, VaultFailure> {
    let too_large = || VaultFailure::unavailable("the answer of the Vault server is larger than 2 MiB");
    let expected = usize::try_from(response.content_length().unwrap_or(4096)).unwrap_or(usize::MAX);
    if expected > ANSWER_BYTES_MAX {
        return Err(too_large());
    }
    let mut body = SecretBuffer::with_capacity(expected);
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
            return Err(too_large());
        }
        body.extend(&chunk);
    }
    Ok(body.into_inner())
}
