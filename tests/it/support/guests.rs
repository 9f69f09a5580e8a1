//! The guests that `tests/build.rs` found: a constant for each, and a macro for each suite.

use std::path::Path;

/// How a guest is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Tool,
    Command,
}

impl Shape {
    /// The word in a manifest.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Command => "command",
        }
    }
}

/// A built guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    /// The name of its file.
    pub(crate) name: &'static str,
    path: &'static str,
    pub(crate) shape: Shape,
}

impl Guest {
    /// The component.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(Path::new(self.path)).expect("tests/build.rs has seen it")
    }

    /// The name as an identifier of a capability.
    pub(crate) fn id(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// The example capability `http-fetch`.
pub(crate) const HTTP_FETCH: Guest = Guest {
    name: "http_fetch",
    path: concat!(env!("ARAL_CAPABILITIES"), "/http_fetch.wasm"),
    shape: Shape::Tool,
};
/// The example capability `notes`.
pub(crate) const NOTES: Guest = Guest {
    name: "notes",
    path: concat!(env!("ARAL_CAPABILITIES"), "/notes.wasm"),
    shape: Shape::Tool,
};
/// The example capability `webhook-post`.
pub(crate) const WEBHOOK_POST: Guest = Guest {
    name: "webhook_post",
    path: concat!(env!("ARAL_CAPABILITIES"), "/webhook_post.wasm"),
    shape: Shape::Tool,
};

include!(env!("ARAL_GUESTS"));

/// For the macros of the suites: fails to compile unless a test function of this name is in scope.
macro_rules! assert_test_exists {
    ($name:ident) => {
        #[expect(unused_imports, reason = "the import is the check")]
        use self::$name as _;
    };
}
pub(crate) use assert_test_exists;
