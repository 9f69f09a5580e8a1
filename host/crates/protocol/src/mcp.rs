//! MCP, the Model Context Protocol: what a caller may call, as tools. Over streamable HTTP at `/mcp`, behind the same layers
//! as every other address, and over standard input and output for a client on this machine. The framing and the revisions
//! of the protocol are the library's; what a tool is, who may call it and what it answers is said here. No tool changes what
//! anybody may do.

mod arguments;
mod call;
mod endpoint;
mod handler;
mod message;
mod presence;
mod session_table;
mod sessions;
mod stdio;
mod stream;
mod text;
mod tool;
mod under_way;

use std::sync::Arc;

use aral_contract::id::CallerName;
use aral_orchestration::Dispatcher;
use http::HeaderName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bounds::Bounds;
use crate::tally::Tally;

pub(crate) use endpoint::{Called, read, serve};
pub use stdio::{Paths, StdioError, StdioParts, serve_stdio, standard_streams};

use session_table::Sessions;

/// Names a session.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// What somebody heard last of a stream that it takes up again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Fields that a page may send with a request.
pub(crate) const ASKED: [HeaderName; 5] = [
    SESSION,
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("mcp-method"),
    HeaderName::from_static("mcp-name"),
    LAST_EVENT_ID,
];
/// Where it answers.
pub(crate) const PATH: &str = "/mcp";

/// What tools are made from and called with, under one configuration.
#[derive(Debug, Clone)]
pub(crate) struct Toolbox {
    dispatcher: Arc<Dispatcher>,
    handler_ms: u64,
}

impl Toolbox {
    pub(crate) fn new(dispatcher: Arc<Dispatcher>, bounds: &Bounds) -> Self {
        Self {
            dispatcher,
            handler_ms: bounds.handler_ms,
        }
    }
}

/// What conversations wait for.
#[derive(Debug, Clone)]
struct News {
    /// Changes when somebody may be able to call something else than before. A clone has not seen what came since the
    /// start: who comes after a change is told once too often rather than once too seldom.
    changes: watch::Receiver<()>,
    /// From now on nobody waits.
    draining: CancellationToken,
}

impl News {
    fn new(changes: watch::Receiver<()>) -> Self {
        Self {
            changes,
            draining: CancellationToken::new(),
        }
    }
}

/// What all listeners share of MCP, from one configuration to the next.
#[derive(Debug)]
pub(crate) struct Mcp {
    news: News,
    sessions: Arc<Sessions>,
    /// How many answers that have no end of their own each caller has.
    streams: Tally<CallerName>,
    /// Nothing of this goes on.
    ended: CancellationToken,
}

impl Mcp {
    pub(crate) fn new(bounds: &Bounds, changes: watch::Receiver<()>) -> Self {
        let news = News::new(changes);
        Self {
            sessions: Arc::new(Sessions::new(bounds, news.draining.clone())),
            news,
            streams: Tally::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Other bounds hold from now on, also in sessions that have begun.
    pub(crate) fn rebound(&self, bounds: &Bounds) {
        self.sessions.rebound(bounds);
    }

    /// Those who wait for news are told that there will be none. Calls go on.
    pub(crate) fn drain(&self) {
        self.news.draining.cancel();
    }

    /// Everything ends now: sessions, and the calls that they still make.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}
