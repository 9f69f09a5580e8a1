//! Whether the server that keeps shared limits answers, and why not.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

/// Characters of a reason that are kept and told. A server may send any number.
const WHY_CHARS_MAX: usize = 200;

/// How long after another reason was told the next one is. Stops reasons that take turns, or have a time in them, from filling the log:
/// there is one at each attempt.
const NEXT_REASON: Duration = Duration::from_secs(60);

/// Whether the server answers.
#[derive(Debug, Default)]
pub(super) struct State {
    /// None: it does not.
    pub(super) connected: Option<Connected>,
    /// Why not; none: it does, or it was not asked yet.
    pub(super) why_down: Option<String>,
    told: Told,
}

/// What the log says of the server that does not answer.
#[derive(Debug, Default)]
struct Told {
    why: String,
    /// When another reason is told; none: at once.
    next: Option<Instant>,
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
    /// Nothing, or too soon after another reason was told.
    Known,
}

impl State {
    /// It does not answer, for this reason.
    pub(super) fn lose(&mut self, error: &str, now: Instant) -> Loss {
        self.connected = None;
        let why: String = error.chars().take(WHY_CHARS_MAX).collect();
        let told = &mut self.told;
        let (loss, next) = match self.why_down.replace(why.clone()) {
            None => (Loss::Begun, None),
            // What the log says last counts: a reason that came too soon is told later, if it is still the one.
            Some(_) if why == told.why || told.next.is_some_and(|next| now < next) => return Loss::Known,
            Some(_) => (Loss::OtherReason, now.checked_add(NEXT_REASON)),
        };
        *told = Told { why, next };
        loss
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
        let now = Instant::now();
        assert_eq!(state.lose("Connection refused", now), Loss::Begun);
        assert_eq!(state.lose("Connection refused", now), Loss::Known);
        assert_eq!(state.lose("Password authentication failed", now), Loss::OtherReason);
        assert_eq!(state.lose("Password authentication failed", now), Loss::Known);
        assert_eq!(state.why_down.as_deref(), Some("Password authentication failed"));
        // However much the server sends.
        let later = now + NEXT_REASON;
        assert_eq!(state.lose(&"x".repeat(1 << 20), later), Loss::OtherReason);
        assert_eq!(state.lose(&"x".repeat(1 << 10), later), Loss::Known);
        assert_eq!(state.why_down.map(|why| why.len()), Some(WHY_CHARS_MAX));
    }

    #[test]
    fn reasons_that_take_turns_are_told_once_in_a_while_and_the_last_one_is_told() {
        let mut state = State::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(state.lose("A", begin), Loss::Begun);
        assert_eq!(state.lose("B", begin), Loss::OtherReason);
        for second in 1..60 {
            let reason = if second % 2 == 0 { "B" } else { "A" };
            assert_eq!(state.lose(reason, after(second)), Loss::Known, "{second}");
            assert_eq!(state.why_down.as_deref(), Some(reason));
        }
        // `A` is the reason still.
        assert_eq!(state.lose("A", after(60)), Loss::OtherReason);
        assert_eq!(state.lose("A", after(61)), Loss::Known);
        assert_eq!(state.lose("C", after(119)), Loss::Known);
        assert_eq!(state.lose("C", after(120)), Loss::OtherReason);
        // Another loss begins anew.
        state.why_down = None;
        assert_eq!(state.lose("A", after(121)), Loss::Begun);
        assert_eq!(state.lose("B", after(121)), Loss::OtherReason);
    }
}
