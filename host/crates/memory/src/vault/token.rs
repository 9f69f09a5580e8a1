//! A token, and how often the server still takes it. Once it is used up, the server answers as to one whose policy says no.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

/// What is sent.
pub(super) struct TokenValue {
    pub(super) text: Zeroizing<String>,
    /// How many requests it is good for; none: for any number, or nobody says.
    left: Option<AtomicU64>,
}

impl TokenValue {
    /// `uses` is what the login said; 0 is no bound.
    pub(super) fn new(text: Zeroizing<String>, uses: Option<u64>) -> Arc<Self> {
        let left = uses.filter(|uses| *uses > 0).map(AtomicU64::new);
        Arc::new(Self { text, left })
    }

    /// Takes one use, for one request, if there is one.
    pub(super) fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        let take = |left: &AtomicU64| left.try_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        self.left.as_ref().is_none_or(take)
    }
}
