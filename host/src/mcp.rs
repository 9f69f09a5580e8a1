//! Hands a host to a client of MCP on standard input and output, or on any other pair of streams.

use std::sync::Arc;

use aral_contract::{Code, Failure};
use aral_orchestration::{Dispatcher, Session};
use aral_protocol::{Bounds, Paths, StdioError, StdioParts, serve_stdio};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::host::Host;

impl Paths for Host {
    fn in_force(&self, session: &Session) -> (Arc<Dispatcher>, Session) {
        let mut dispatcher = self.dispatcher();
        loop {
            let session = dispatcher.renewed_session(session);
            // A newer issue came with rules of its own, and must not run under those of before.
            let now = self.dispatcher();
            if Arc::ptr_eq(&now, &dispatcher) {
                return (dispatcher, session);
            }
            dispatcher = now;
        }
    }
}

impl Host {
    /// Answers MCP, one message a line, until `input` or `stop` ends: what the session may call are the tools. Once a newer issue of its
    /// persona is taken, the conversation goes on under that one. Needs a tokio runtime. Of `bounds`, `body_bytes_max` bounds a
    /// message, `handler_ms` a call, `requests_per_caller_max` how many requests are under way, and `unsent_bytes_per_caller_max` what
    /// their answers take.
    ///
    /// # Errors
    /// `request.invalid` if the other side does not speak MCP; `host.unavailable` if an answer finds no room; `host.internal` if the conversation breaks off.
    pub async fn mcp<R, W>(
        &self,
        session: Session,
        bounds: Bounds,
        (input, output): (R, W),
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let parts = StdioParts {
            paths: Arc::new(self.clone()),
            session,
            bounds,
            changes: self.changes(),
        };
        serve_stdio(parts, input, output, stop)
            .await
            .map_err(|error| match error {
                StdioError::Protocol(_) => Failure::new(Code::RequestInvalid, error.to_string())
                    .with_hint("start `aral mcp` from a client of MCP; docs/clients.md shows how"),
                StdioError::Output(_) => Failure::new(Code::Unavailable, error.to_string())
                    .with_hint("make room where they go, or have them go somewhere else"),
                StdioError::Broken(_) => Failure::internal(error),
            })
    }
}
