//! What clients learn of how to be let in (RFC 9728): which resource this is, which issuers it believes, which scopes it
//! knows; and the challenge that says where that is written. It decides nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

use crate::door::Door;
use crate::problem::Problem;
use crate::token::Issuers;

/// Where the description is, below the address of the server (RFC 9728 section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// Where MCP is answered: a resource of its own, since clients ask for tokens for exactly the address that they were given.
const MCP: &str = crate::mcp::PATH;

/// Not an address that a resource can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no resource: write https://HOST, or http:// on this machine, without a path", .0.escape_debug())]
pub struct ResourceError(String);

/// The address under which callers know the server: scheme, host, and the port if it is not the scheme's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Resource(String);

impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        let wrong = || ResourceError(text.rsplit('@').next().unwrap_or_default().chars().take(128).collect());
        let url = Url::parse(text).map_err(|_| wrong())?;
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(wrong()),
        };
        let spoken = url.scheme() == "https" || (url.scheme() == "http" && local);
        let origin = url.origin().ascii_serialization();
        if spoken && url.as_str().trim_end_matches('/') == origin {
            Ok(Self(origin))
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for Resource {
    type Error = ResourceError;
    fn try_from(text: String) -> Result<Self, ResourceError> {
        text.parse()
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is said of one resource.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Metadata {
    /// The resource, as clients name it when they ask for a token.
    resource: String,
    /// Issuers whose tokens are believed.
    authorization_servers: Vec<String>,
    /// Scopes that let somebody call.
    scopes_supported: Vec<String>,
    /// Where a token stands: in `Authorization`.
    bearer_methods_supported: [&'static str; 1],
}

/// The answers, made once.
#[derive(Debug)]
pub(crate) struct Protected(Option<Described>);

#[derive(Debug)]
struct Described {
    root: (Bytes, HeaderValue),
    mcp: (Bytes, HeaderValue),
    /// The resource that MCP is.
    mcp_resource: String,
}

impl Protected {
    /// Without issuers there is nothing to describe.
    pub(crate) fn new(resource: Option<&Resource>, issuers: &Issuers) -> Self {
        let names = issuers.names();
        let Some(resource) = resource.filter(|_| !names.is_empty()) else {
            return Self(None);
        };
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<String>>();
        let describe = |path: &str| {
            let metadata = Metadata {
                resource: format!("{resource}{path}"),
                authorization_servers: owned(issuers.names()),
                scopes_supported: owned(issuers.scopes()),
                bearer_methods_supported: ["header"],
            };
            let challenge = format!("Bearer resource_metadata=\"{resource}{WELL_KNOWN}{path}\"");
            let challenge = HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Bearer"));
            (
                Bytes::from(serde_json::to_vec(&metadata).unwrap_or_default()),
                challenge,
            )
        };
        Self(Some(Described {
            root: describe(""),
            mcp: describe(MCP),
            mcp_resource: format!("{resource}{MCP}"),
        }))
    }

    /// The resource that MCP is, as clients name it when they ask for a token.
    pub(crate) fn mcp(&self) -> Option<&str> {
        self.0.as_ref().map(|described| described.mcp_resource.as_str())
    }

    /// What a stranger is told to do (RFC 9728 section 5.1), the same for all of them.
    pub(crate) fn challenge(&self, uri: &Uri) -> HeaderValue {
        match &self.0 {
            Some(described) if uri.path() == MCP => described.mcp.1.clone(),
            Some(described) => described.root.1.clone(),
            None => HeaderValue::from_static("Bearer"),
        }
    }

    /// No copy: whoever does not read it has none.
    fn answer(&self, which: fn(&Described) -> &(Bytes, HeaderValue)) -> Response {
        match &self.0 {
            Some(described) => {
                let kind = [(header::CONTENT_TYPE, "application/json")];
                (kind, which(described).0.clone()).into_response()
            }
            None => Problem::of_status(StatusCode::NOT_FOUND).into_response(),
        }
    }
}

/// How to be let in with a token (RFC 9728).
#[utoipa::path(
    get,
    path = "/.well-known/oauth-protected-resource",
    tag = "operation",
    responses(
        (status = 200, description = "Whose tokens are believed", body = Metadata),
        (status = 404, response = crate::problem::ProblemResponse),
        (status = 429, response = crate::problem::ProblemResponse),
    )
)]
pub(crate) async fn root(State(door): State<Arc<Door>>) -> Response {
    door.shared.protected.answer(|described| &described.root)
}

/// The same for MCP, which is a resource of its own.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-protected-resource/mcp",
    tag = "operation",
    responses(
        (status = 200, description = "Whose tokens are believed", body = Metadata),
        (status = 404, response = crate::problem::ProblemResponse),
        (status = 429, response = crate::problem::ProblemResponse),
    )
)]
pub(crate) async fn mcp(State(door): State<Arc<Door>>) -> Response {
    // Nobody describes what is not there.
    if !door.listener.mcp {
        return Problem::of_status(StatusCode::NOT_FOUND).into_response();
    }
    door.shared.protected.answer(|described| &described.mcp)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn all_answers_are_one_document() {
        let of = |text: &'static str| (Bytes::from(text.to_owned()), HeaderValue::from_static("Bearer"));
        let (root, mcp) = (of("{}"), of("[]"));
        let documents = [root.0.clone(), mcp.0.clone()];
        let mcp_resource = String::new();
        let protected = Protected(Some(Described {
            root,
            mcp,
            mcp_resource,
        }));
        for _ in 0..2 {
            let answers = [protected.answer(|it| &it.root), protected.answer(|it| &it.mcp)];
            for (answer, document) in answers.into_iter().zip(&documents) {
                let told = answer.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!((told.as_ptr(), told.len()), (document.as_ptr(), document.len()));
            }
        }
    }

    #[test]
    fn a_resource_is_an_origin() {
        for (good, text) in [
            ("https://aral.example.org", "https://aral.example.org"),
            ("https://Aral.example.org:443/", "https://aral.example.org"),
            ("https://aral.example.org:8443", "https://aral.example.org:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(good.parse::<Resource>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "aral.example.org",
            "http://aral.example.org",
            "https://aral.example.org/mcp",
            "https://aral.example.org/?q",
            "https://aral.example.org/#f",
            "https://user:hunter2@aral.example.org",
        ] {
            let error = bad.parse::<Resource>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
