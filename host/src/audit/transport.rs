//! Sends batches of records to a server that the operator names, and reads its answer, both within bounds. It knows no
//! format.

mod authorization;

use std::time::Duration;

use aral_audit::sink::{ANSWER_BYTES_MAX, Answer, AnswerFuture, Transport, TransportError};
use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use aral_runtime::outbound::{self, Outbound, OutboundError, ServerUrl};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use crate::config::audit::ServerConfig;
use authorization::Authorization;

/// The connections to one server.
#[derive(Debug)]
pub(crate) struct Https {
    http: reqwest::Client,
    base: String,
    authorization: Option<Authorization>,
}

impl Https {
    /// `table` is what the operator wrote it in, for messages.
    pub(crate) fn new(server: &ServerConfig, table: &str, outbound: &Outbound) -> Result<Self, Failure> {
        let wrong = |error: OutboundError| {
            let failure = Failure::new(Code::ConfigInvalid, format!("{table} {}", chain(&error)));
            match error {
                OutboundError::Address { .. } => failure.with_hint(format!(
                    "aral.toml, {table}: address = \"https://HOST:PORT\", or \"http://127.0.0.1:PORT\" for this machine"
                )),
                OutboundError::Authorities(_) => failure.with_hint(format!("aral.toml, {table}: ca_file = \"ca.pem\"")),
                OutboundError::Proxy(_) | OutboundError::NoProxy(_) | OutboundError::Client(_) => failure,
            }
        };
        let url = ServerUrl::parse(&server.address)
            .and_then(ServerUrl::without_query)
            .map_err(wrong)?;
        let timeout = Duration::from_millis(server.timeout_ms);
        Ok(Self {
            http: outbound
                .client(&url, server.ca_pem.as_deref(), timeout)
                .map_err(wrong)?,
            base: url.url().as_str().trim_end_matches('/').to_owned(),
            authorization: server
                .authorization_file
                .clone()
                .map(|path| Authorization::new(path, timeout)),
        })
    }

    /// Whether there can be such connections, and whether what is shown over them can be read. It asks no server.
    pub(crate) fn check(server: &ServerConfig, table: &str, outbound: &Outbound) -> Result<(), Failure> {
        let authorization = Self::new(server, table, outbound)?.authorization;
        let shown = authorization.map(|authorization| authorization.read_now()).transpose();
        shown.map(drop).map_err(|error| {
            Failure::new(Code::ConfigInvalid, format!("{table} authorization_file: {error}"))
                .with_hint("put the value of the header `authorization` into a file of this user, of mode 0600")
        })
    }

    async fn exchange(&self, path: &str, content_type: &'static str, body: Vec<u8>) -> Result<Answer, TransportError> {
        let failed = |error: reqwest::Error| TransportError(chain(&error.without_url()));
        let mut request = self.http.post(format!("{}{path}", self.base)).body(body);
        request = request.header(CONTENT_TYPE, content_type);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.read().await?);
        }
        let response = request.send().await.map_err(failed)?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        Ok(Answer {
            status: response.status().as_u16(),
            retry_after,
            body: outbound::body(response, ANSWER_BYTES_MAX).await.map_err(failed)?,
        })
    }
}

impl Transport for Https {
    fn post<'a>(&'a self, path: &'a str, content_type: &'static str, body: Vec<u8>) -> AnswerFuture<'a> {
        Box::pin(self.exchange(path, content_type, body))
    }
}

/// Only the form in seconds; a date would need the other end's clock.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use aral_runtime::files;

    use super::*;

    fn server(address: &str) -> ServerConfig {
        ServerConfig {
            address: address.to_owned(),
            ca_pem: None,
            authorization_file: None,
            timeout_ms: 1000,
        }
    }

    fn https(server: &ServerConfig) -> Result<Https, Failure> {
        Https::new(server, "[audit.otlp]", &Outbound::default())
    }

    #[test]
    fn a_server_that_cannot_be_is_named_with_its_table() {
        https(&server("https://example.org:9200/base/")).unwrap();
        for (bad, reason) in [
            ("example.org", "no URL"),
            ("http://example.org", "plain http"),
            ("https://user@example.org", "user or password"),
            ("https://example.org/?q", "query"),
        ] {
            let failure = https(&server(bad)).unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid);
            assert!(
                failure.message.starts_with("[audit.otlp] ") && failure.message.contains(reason),
                "{failure}"
            );
            assert!(failure.hint.unwrap().contains("[audit.otlp]: address"));
        }
        let none = ServerConfig {
            ca_pem: Some(b"none".to_vec()),
            ..server("https://example.org")
        };
        let failure = https(&none).unwrap_err();
        assert!(failure.message.contains("no certificate"), "{failure}");
        assert!(failure.hint.unwrap().contains("[audit.otlp]: ca_file"));
    }

    /// Takes one request, answers, and returns what was asked.
    async fn exchange(
        settings: impl FnOnce(&mut ServerConfig),
        answer: &str,
    ) -> (String, Result<Answer, TransportError>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut server = server(&format!("http://{}", listener.local_addr().unwrap()));
        settings(&mut server);
        let transport = https(&server).unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let mut length = 0;
            while !asked[..length].ends_with(b"body") {
                length += stream.read(&mut asked[length..]).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.truncate(length);
            // Held open: an answer that does not come is waited for.
            (stream, String::from_utf8(asked).unwrap())
        };
        let ((_stream, asked), answered) = tokio::join!(served, transport.post("/_bulk", "text/x", b"body".to_vec()));
        (asked, answered)
    }

    #[tokio::test]
    async fn a_batch_goes_out_with_the_credential_and_an_answer_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth");
        files::write_path(&path, b"ApiKey abc\n", 0o600, files::Replace::Refuse).unwrap();
        let answer = "HTTP/1.1 429 Busy\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\nno";
        let (asked, answered) = exchange(|server| server.authorization_file = Some(path.clone()), answer).await;
        assert!(asked.starts_with("POST /_bulk HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("authorization: ApiKey abc\r\n") && asked.contains("content-type: text/x\r\n"),
            "{asked}"
        );
        let expected = Answer {
            status: 429,
            retry_after: Some(Duration::from_secs(3)),
            body: b"no".to_vec(),
        };
        assert_eq!(answered.unwrap(), expected);
        // Read anew each time; one that is not private is not sent.
        files::write_path(&path, b"ApiKey abc", 0o644, files::Replace::Allow).unwrap();
        let open = ServerConfig {
            authorization_file: Some(path),
            ..server("http://127.0.0.1:1")
        };
        let refused = https(&open).unwrap().exchange("/", "text/x", Vec::new()).await;
        assert!(refused.unwrap_err().to_string().contains("mode"));
        let check = |server: &ServerConfig| Https::check(server, "[audit.otlp]", &Outbound::default());
        check(&server("http://127.0.0.1:1")).unwrap();
        assert!(check(&open).unwrap_err().message.contains("mode"));
        let none = ServerConfig {
            authorization_file: Some(folder.path().join("none")),
            ..open
        };
        let refused = https(&none).unwrap().exchange("/", "text/x", Vec::new()).await;
        for told in [refused.unwrap_err().to_string(), check(&none).unwrap_err().message] {
            assert!(
                told.contains("none`: No such file"),
                "with what the system said: {told}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_waited_for_as_long_as_configured_and_no_redirect_is_followed() {
        let (_, answered) = exchange(|server| server.timeout_ms = 50, "").await;
        answered.unwrap_err();
        let redirect = "HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (_, answered) = exchange(|_| (), redirect).await;
        assert_eq!(answered.unwrap().status, 307);
    }

    #[test]
    fn when_to_come_again() {
        let read = |text: &'static str| seconds(&HeaderValue::from_static(text));
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }
}
