//! What a store may hold after its writer was stopped: of each thread everything that was acknowledged, and at most the one
//! turn more that was on its way; that one whole or not at all.

use crate::script::{State, Turn, perform};

/// Records belong to the thread that their name begins with.
pub(crate) fn name_prefix(thread: usize) -> String {
    format!("thread-{thread}-")
}

fn own(state: &State, thread: usize) -> State {
    let prefix = name_prefix(thread);
    let own = state.iter().filter(|((_, name), _)| name.starts_with(&prefix));
    own.map(|(place, record)| (place.clone(), record.clone())).collect()
}

/// The state that the store is in, if it may be: `before`, then the acknowledged turns of each thread, and perhaps one more.
pub(crate) fn settle(
    before: &State,
    turns: &[Turn],
    acknowledged: &[usize],
    found: &State,
    now: i64,
) -> Result<State, String> {
    let mut settled = State::new();
    for (thread, acknowledged) in acknowledged.iter().enumerate() {
        settled.extend(settle_thread(before, turns, thread, *acknowledged, found, now)?);
    }
    if settled == *found {
        Ok(settled)
    } else {
        Err(format!("there are records that no thread wrote: {found:#?}"))
    }
}

fn settle_thread(
    before: &State,
    turns: &[Turn],
    thread: usize,
    acknowledged: usize,
    found: &State,
    now: i64,
) -> Result<State, String> {
    let mut state = own(before, thread);
    let found = own(found, thread);
    let mut acts = turns.iter().filter(|turn| turn.thread == thread);
    for turn in acts.by_ref().take(acknowledged) {
        perform(&mut state, &turn.act, now);
    }
    if found == state {
        return Ok(state);
    }
    if let Some(turn) = acts.next() {
        perform(&mut state, &turn.act, now);
    }
    if found == state {
        return Ok(state);
    }
    let place = state
        .keys()
        .chain(found.keys())
        .find(|place| state.get(*place) != found.get(*place));
    let (wanted, is) = place
        .map(|place| (state.get(place), found.get(place)))
        .unwrap_or_default();
    Err(format!(
        "thread {thread} is neither after {acknowledged} turns nor after one more: {place:?} is {is:?} and not {wanted:?}"
    ))
}
