//! Whether the server that keeps shared limits answers, and why not.

use redis::aio::MultiplexedConnection;

/// Characters of a reason that are kept and told. A server may send any number.
const WHY_CHARS_MAX: usize = 200;

/// Whether the server answers.
#[derive(Debug, Default)]
pub(super) struct State {
    /// None: it does not.
    pub(super) connected: Option<Connected>,
    /// Why not; none: it does, or it was not asked yet.
    pub(super) why_down: Option<String>,
}

/// A connection; each has a number, so that a late failure of one does not end the next.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) number: u64,
    pub(super) connection: MultiplexedConnection,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connected({})", self.number)
    }
}

/// What is new about a server that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// That it does not.
    Begun,
    /// The reason. Whoever repaired the first one would not learn of the next one.
    OtherReason,
    /// Nothing.
    Known,
}

impl State {
    /// It does not answer, for this reason.
    pub(super) fn lose(&mut self, error: &str) -> Loss {
        self.connected = None;
        let why: String = error.chars().take(WHY_CHARS_MAX).collect();
        match self.why_down.replace(why) {
            None => Loss::Begun,
            before if before == self.why_down => Loss::Known,
            Some(_other) => Loss::OtherReason,
        }
    }

    /// It answers. Says whether it did not before.
    pub(super) fn find(&mut self, connected: Connected) -> bool {
        self.connected = Some(connected);
        self.why_down.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_reason_of_a_server_that_does_not_answer_is_told_once() {
        let mut state = State::default();
        assert_eq!(state.lose("Connection refused"), Loss::Begun);
        assert_eq!(state.lose("Connection refused"), Loss::Known);
        assert_eq!(state.lose("Password authentication failed"), Loss::OtherReason);
        assert_eq!(state.lose("Password authentication failed"), Loss::Known);
        assert_eq!(state.why_down.as_deref(), Some("Password authentication failed"));
        // However much the server sends.
        assert_eq!(state.lose(&"x".repeat(1 << 20)), Loss::OtherReason);
        assert_eq!(state.lose(&"x".repeat(1 << 10)), Loss::Known);
        assert_eq!(state.why_down.map(|why| why.len()), Some(WHY_CHARS_MAX));
    }
}
