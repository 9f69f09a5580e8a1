//! What the script is asked, and what it answers.

use std::time::Duration;

use redis::{Script, ScriptInvocation};

use super::super::charge::{Charge, Level, Refused, Verdict};
use crate::bounds;

/// How far the clock of Redis may be set back before what is put aside for the longest of calls counts as used, with the amount that
/// such a call then uses beside it.
const CLOCK_STEP: Duration = Duration::from_mins(1);

/// What is done with charges.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// All of them are counted, or put aside where they say so, or none.
    Take,
    /// What was counted is given back. What was put aside until `end_us` is ended, and so much of it counts from now on.
    GiveBack { used_ns: u64, end_us: u64 },
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) verdict: Verdict,
    /// When what was put aside ends at the latest, in microseconds by the server's clock; 0: nothing was.
    pub(super) end_us: u64,
}

/// The script, ready to be asked.
pub(super) fn question<'a>(script: &'a Script, prefix: &str, charges: &[Charge], act: Act) -> ScriptInvocation<'a> {
    let mut question = script.prepare_invoke();
    question.arg(micros(furthest()));
    for charge in charges {
        let (word, numbers) = words(charge, act);
        question.key(charge.key.text(prefix)).arg(word).arg(&numbers);
    }
    for charge in charges.iter().filter(|charge| charge.aside.is_some()) {
        question.key(format!("{}:aside", charge.key.text(prefix)));
    }
    question
}

/// An end is up to twice as far ahead as the longest call takes. One further ahead is by a clock that went back.
fn furthest() -> Duration {
    bounds::longest_call().saturating_mul(2).saturating_add(CLOCK_STEP)
}

/// What the script is told of a charge.
fn words(charge: &Charge, act: Act) -> (&'static str, [u64; 3]) {
    match (act, charge.aside) {
        (Act::Take, None) => ("take", [charge.ns(), charge.rate.capacity_ns(), 0]),
        (Act::Take, Some(most)) => ("hold", [charge.ns(), charge.rate.capacity_ns(), micros(most)]),
        (Act::GiveBack { .. }, None) => ("back", [charge.ns(), 0, 0]),
        (Act::GiveBack { used_ns, end_us }, Some(_)) => ("end", [charge.ns(), used_ns, end_us]),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the script answers, and the server's time in microseconds; none: that is no answer of it.
pub(super) fn read(charges: &[Charge], answer: &[u64]) -> Option<(Answered, u64)> {
    let [now_us, refused, wait, rest @ ..] = answer else {
        return None;
    };
    let (levels, ends) = rest.split_at_checked(charges.len())?;
    let end_us = match ends {
        [] => 0,
        [end_us] => *end_us,
        _ => return None,
    };
    let mut levels = charges.iter().zip(levels);
    let verdict = match refused.checked_sub(1) {
        None => Verdict::Passed(levels.map(|(charge, ns)| Level::new(charge, *ns)).collect()),
        Some(index) => {
            let (charge, ns) = levels.nth(usize::try_from(index).ok()?)?;
            Verdict::Refused(Refused::new(charge, *ns, Some(Duration::from_nanos(*wait))))
        }
    };
    Some((Answered { verdict, end_us }, *now_us))
}

#[cfg(test)]
mod tests {
    use super::super::super::charge::Key;
    use super::super::super::rate::{Per, Rate};
    use super::super::super::rates::Limit;
    use super::*;

    fn charges() -> [Charge; 2] {
        let key = |limit| Key::new(limit, &["echo"]);
        let counted = Charge::one(key(Limit::Capability), Rate::of(1, Per::Second, 5));
        let held = Charge {
            key: key(Limit::Cost),
            aside: Some(Duration::from_secs(7)),
            ..counted
        };
        [counted, held]
    }

    #[test]
    fn a_cost_is_put_aside_for_as_long_as_its_call_may_take_and_ended_with_what_it_used() {
        let [counted, held] = charges();
        let (second, most) = (1_000_000_000, 5_000_000_000);
        assert_eq!(words(&counted, Act::Take), ("take", [second, most, 0]));
        assert_eq!(words(&held, Act::Take), ("hold", [second, most, 7_000_000]));
        let back = Act::GiveBack { used_ns: 3, end_us: 9 };
        assert_eq!(words(&counted, back), ("back", [second, 0, 0]));
        assert_eq!(words(&held, back), ("end", [second, 3, 9]));
    }

    #[test]
    fn an_answer_has_a_level_for_each_key_and_at_most_one_end() {
        let charges = charges();
        let end_us = |answer: &[u64]| read(&charges, answer).map(|(answered, _now)| answered.end_us);
        assert_eq!(end_us(&[1, 0, 0, 4, 5]), Some(0));
        assert_eq!(end_us(&[1, 0, 0, 4, 5, 6]), Some(6));
        for wrong in [
            &[][..],
            &[1, 0],
            &[1, 0, 0, 4],
            &[1, 0, 0, 4, 5, 6, 7],
            &[1, 3, 0, 4, 5],
        ] {
            assert_eq!(end_us(wrong), None, "{wrong:?}");
        }
        let (refused, now_us) = read(&charges, &[1, 2, 8, 4, 5]).unwrap();
        let Verdict::Refused(refused) = refused.verdict else {
            panic!("it passes")
        };
        assert_eq!(now_us, 1);
        let wait = Some(Duration::from_nanos(8));
        assert_eq!(
            (refused.level.limit, refused.level.ns, refused.wait),
            (Limit::Cost, 5, wait)
        );
    }
}
