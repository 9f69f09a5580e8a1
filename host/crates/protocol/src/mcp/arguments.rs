//! The arguments of a call, as text from where its message is read. The library hands a message from task to task, each of which
//! waits for its turn, and values take a hundred times the memory of their text: it never sees these.

use std::sync::Arc;

use http::request::Parts;
use rmcp::model::{Extensions, JsonObject};
use serde_json::Value;

/// The one argument of a capability whose input is not declared as an object, which is all that MCP sends.
pub(super) const INPUT: &str = "input";

/// Those of one call.
#[derive(Debug, Clone)]
pub(super) struct Arguments {
    text: Arc<str>,
    /// There is one, [`INPUT`].
    is_input: bool,
}

impl Arguments {
    pub(super) fn new(arguments: JsonObject) -> Self {
        Self {
            is_input: arguments.len() == 1 && arguments.contains_key(INPUT),
            text: Value::Object(arguments).to_string().into(),
        }
    }

    /// Those that came with a request; none: it has none.
    pub(super) fn of(extensions: &Extensions) -> Option<&Self> {
        let parts = extensions.get::<Parts>().map(|parts| &parts.extensions);
        let found = parts.and_then(|parts| parts.get::<Self>());
        // Over no network there are no parts.
        found.or_else(|| extensions.get::<Self>())
    }

    /// All of them, as an object.
    pub(super) fn all(&self) -> &str {
        &self.text
    }

    /// The value of the one that is [`INPUT`]; none: there are others, or not this.
    pub(super) fn input(&self) -> Option<&str> {
        let (_name, value) = self.text.split_once(':').filter(|_| self.is_input)?;
        value.strip_suffix('}')
    }
}
