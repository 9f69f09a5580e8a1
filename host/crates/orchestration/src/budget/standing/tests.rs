//! Counting at both edges of each time, and across a restart.

use aral_contract::PersonaId;

use super::*;
use crate::authorize::Party;
use crate::budget::Ledger;

fn at(ms: i64) -> Moment {
    Moment {
        elapsed_ms: ms,
        day_ms: 1_000_000_000_000 + ms,
    }
}

fn bound(most: u64) -> Bound {
    Bound {
        most,
        by: Party::Persona,
    }
}

fn terms(minute: u64, hour: u64, cost: u64, call: u64) -> Terms {
    Terms {
        tier: None,
        requests_per_minute: bound(minute),
        requests_per_hour: bound(hour),
        cost_per_hour_micro: bound(cost),
        reasoning_depth: bound(0),
        price_micro: 0,
        gigafuel_micro: 0,
        second_micro: 0,
        call_cost_max_micro: call,
    }
}

fn rate(standing: &Standing, terms: &Terms, now: i64) -> Option<(&'static str, Option<u128>)> {
    match standing.take(terms, at(now)) {
        Ok(()) => None,
        Err(Exceeded::Rate { name, wait, .. }) => Some((name, wait.map(|wait| wait.as_millis()))),
        Err(other) => panic!("{other:?}"),
    }
}

fn cost(standing: &Standing, terms: &Terms, now: i64) -> Option<(u64, Option<u128>)> {
    match standing.take(terms, at(now)) {
        Ok(()) => None,
        Err(Exceeded::Cost { left, wait, .. }) => Some((left, wait.map(|wait| wait.as_millis()))),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_minute_has_two_edges() {
    let (standing, terms) = (Standing::new(), terms(2, 100, 0, 0));
    assert_eq!(rate(&standing, &terms, 0), None);
    assert_eq!(rate(&standing, &terms, 30_000), None);
    assert_eq!(
        rate(&standing, &terms, 30_000),
        Some(("requests_per_minute", Some(30_000)))
    );
    assert_eq!(rate(&standing, &terms, 59_999), Some(("requests_per_minute", Some(1))));
    assert_eq!(rate(&standing, &terms, 60_000), None);
    assert_eq!(rate(&standing, &terms, 89_999), Some(("requests_per_minute", Some(1))));
    assert_eq!(rate(&standing, &terms, 90_000), None);
}

#[test]
fn an_hour_has_two_edges_and_counts_although_no_minute_is_full() {
    let (standing, terms) = (Standing::new(), terms(10, 3, 0, 0));
    for now in [0, 1_000_000, 2_000_000] {
        assert_eq!(rate(&standing, &terms, now), None);
    }
    assert_eq!(
        rate(&standing, &terms, 2_000_000),
        Some(("requests_per_hour", Some(1_600_000)))
    );
    assert_eq!(rate(&standing, &terms, 3_599_999), Some(("requests_per_hour", Some(1))));
    assert_eq!(rate(&standing, &terms, 3_600_000), None);
    assert_eq!(rate(&standing, &terms, 4_599_999), Some(("requests_per_hour", Some(1))));
}

#[test]
fn a_refused_request_does_not_count() {
    let (standing, terms) = (Standing::new(), terms(1, 1, 0, 0));
    assert_eq!(rate(&standing, &terms, 0), None);
    for _ in 0..10 {
        assert!(rate(&standing, &terms, 1).is_some());
    }
    assert!(rate(&standing, &terms, 3_599_999).is_some());
    assert_eq!(rate(&standing, &terms, 3_600_000), None);
    let none = Standing::new();
    assert_eq!(
        rate(&none, &super::tests::terms(0, 1, 0, 0), 0),
        Some(("requests_per_minute", None)),
        "no waiting helps"
    );
}

#[test]
fn money_is_put_aside_before_a_call_and_settled_after_it() {
    let (standing, terms) = (Standing::new(), terms(100, 100, 10, 6));
    assert_eq!(cost(&standing, &terms, 0), None);
    assert_eq!(
        cost(&standing, &terms, 0),
        Some((4, Some(1_000))),
        "the first is in flight"
    );
    standing.settle(6, 3, at(10_000));
    assert_eq!(cost(&standing, &terms, 10_000), None);
    standing.settle(6, 5, at(20_000));
    // 8 are spent and 6 are wanted: that the 3 leave does not help yet.
    assert_eq!(cost(&standing, &terms, 20_000), Some((2, Some(3_600_000))));
    assert_eq!(cost(&standing, &terms, 3_609_999), Some((2, Some(10_001))));
    assert_eq!(cost(&standing, &terms, 3_619_999), Some((5, Some(1))));
    assert_eq!(cost(&standing, &terms, 3_620_000), None);
    let never = super::tests::terms(100, 100, 5, 6);
    assert_eq!(
        cost(&Standing::new(), &never, 0),
        Some((5, None)),
        "one call can cost more than the hour may"
    );
}

#[test]
fn a_restart_does_not_reset_the_hour() {
    let terms = terms(2, 3, 10, 4);
    let first = Standing::new();
    for now in [0, 1_000] {
        assert!(first.take(&terms, at(now)).is_ok());
        first.settle(4, 4, at(now));
    }
    let kept = first.take_unsaved(at(1_000));
    assert!(first.take_unsaved(at(1_000)).is_empty(), "it is taken once");
    let second = Standing::new();
    second.load(&kept, at(2_000));
    assert_eq!(
        rate(&second, &terms, 2_000),
        Some(("requests_per_minute", Some(59_000)))
    );
    assert_eq!(cost(&second, &terms, 100_000), Some((2, Some(3_501_000))));
    assert!(
        second.take_unsaved(at(2_000)).is_empty(),
        "what was loaded is not saved twice"
    );
    assert!(!second.is_idle(at(100_000)) && second.is_idle(at(3_700_000)));
}

#[test]
fn what_is_loaded_is_added_to_what_nobody_has_kept_yet() {
    let terms = terms(100, 3, 10, 0);
    let (here, there) = (Standing::new(), Standing::new());
    assert!(there.take(&terms, at(0)).is_ok() && there.take(&terms, at(0)).is_ok());
    assert!(here.take(&terms, at(0)).is_ok());
    here.load(&there.take_unsaved(at(0)), at(0));
    assert!(rate(&here, &terms, 0).is_some());
    assert_eq!(here.take_unsaved(at(0)).requests.len(), 1);
}

#[test]
fn what_is_kept_each_second_fills_no_minute_before_its_time() {
    let (standing, terms, mut kept) = (Standing::new(), terms(600, 100_000, 0, 0), Ledger::default());
    let id: PersonaId = "a".parse().unwrap();
    for second in 0..120 {
        for call in 0..9 {
            let now = second * 1_000 + call * 100;
            assert_eq!(rate(&standing, &terms, now), None, "540 in any minute, at {now}");
        }
        let now = second * 1_000 + 900;
        keep(&standing, &id, &mut kept, now);
    }
}

/// As a host keeps what was used, and learns of what others have.
fn keep(standing: &Standing, id: &PersonaId, kept: &mut Ledger, now: i64) {
    keep_at(standing, id, kept, at(now));
}

fn keep_at(standing: &Standing, id: &PersonaId, kept: &mut Ledger, now: Moment) {
    let personas = [(id.clone(), standing.take_unsaved(now))].into();
    kept.add(Ledger { personas }, now.day_ms);
    let spent = kept.personas.get(id).cloned().unwrap_or_default();
    standing.load(&spent, now);
}

#[test]
fn what_others_did_counts_once_and_in_the_minute_too() {
    let (here, there, mut kept) = (Standing::new(), Standing::new(), Ledger::default());
    let (id, all): (PersonaId, _) = ("a".parse().unwrap(), terms(100, 100, 100, 7));
    for (standing, cost) in [(&here, 3), (&there, 4), (&there, 0)] {
        standing.take(&all, at(0)).unwrap();
        standing.settle(7, cost, at(0));
    }
    for now in 0..3 {
        for standing in [&here, &there] {
            keep(standing, &id, &mut kept, now);
        }
    }
    // What could not be kept is not known to others, and counts once here.
    let spent = {
        here.take(&all, at(3)).unwrap();
        here.settle(7, 1, at(3));
        here.take_unsaved(at(3))
    };
    here.give_back(&spent, at(3));
    keep(&here, &id, &mut kept, 3);
    keep(&there, &id, &mut kept, 3);
    for standing in [&here, &there] {
        for (minute, hour, cost) in [(4, 100, 100), (100, 4, 100), (100, 100, 14)] {
            assert!(standing.take(&terms(minute, hour, cost, 7), at(4)).is_err());
        }
        standing.take(&terms(5, 5, 15, 7), at(4)).unwrap();
    }
}

#[test]
fn whoever_puts_the_time_of_day_forward_or_back_gives_nothing_back_and_takes_nothing() {
    let hour = 3_600_000;
    for step in [2 * hour, -2 * hour] {
        let (here, before, mut kept) = (Standing::new(), Standing::new(), Ledger::default());
        let (id, terms): (PersonaId, _) = ("a".parse().unwrap(), terms(3, 100, 11, 5));
        for standing in [&before, &here] {
            standing.take(&terms, at(0)).unwrap();
            standing.settle(5, 3, at(0));
            keep(standing, &id, &mut kept, 0);
        }
        let after = |ms: i64| Moment {
            day_ms: at(ms).day_ms + step,
            ..at(ms)
        };
        here.take(&terms, after(1_000)).unwrap();
        here.settle(5, 0, after(1_000));
        keep_at(&here, &id, &mut kept, after(2_000));
        assert!(here.take(&terms, after(59_999)).is_err(), "three in this minute");
        keep_at(&here, &id, &mut kept, after(hour - 1));
        let cost = |ms| here.take(&super::tests::terms(3, 100, 10, 5), after(ms));
        assert!(matches!(cost(hour - 1), Err(Exceeded::Cost { left: 4, .. })));
        assert!(cost(hour + 15_000).is_ok());
    }
}

#[test]
fn counting_allocates_nothing() {
    let (standing, terms) = (Standing::new(), terms(u64::MAX, u64::MAX, u64::MAX, 1));
    let measured = allocation_counter::measure(|| {
        for now in 0..10_000 {
            standing.take(&terms, at(now * 977)).unwrap();
            standing.settle(1, 1, at(now * 977));
        }
    });
    assert_eq!(measured.count_total, 0);
}
