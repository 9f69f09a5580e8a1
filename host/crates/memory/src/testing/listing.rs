//! Listing: every name once, in one order, a bounded piece at a time.

use std::collections::BTreeSet;

use super::subject::{delete, name, namespace, put};
use super::{Case, Subject};
use crate::record::{BATCH_OPERATIONS_MAX, LIST_EXAMINED_MAX, PAGE_NAMES_MAX};
use crate::{Precondition, Quota, StoreError};

pub(super) const CASES: &[Case] = &[
    (
        "pages_of_every_size_give_each_name_once_in_one_order",
        pages_of_every_size_give_each_name_once_in_one_order,
    ),
    ("a_prefix_chooses_names", a_prefix_chooses_names),
    (
        "a_prefix_that_nothing_matches_is_looked_for_in_bounded_steps",
        a_prefix_that_nothing_matches_is_looked_for_in_bounded_steps,
    ),
    (
        "a_listing_goes_on_while_names_come_and_go",
        a_listing_goes_on_while_names_come_and_go,
    ),
    (
        "a_cursor_is_good_for_its_namespace_and_prefix_alone",
        a_cursor_is_good_for_its_namespace_and_prefix_alone,
    ),
    (
        "a_page_has_at_most_the_names_that_a_page_may_have",
        a_page_has_at_most_the_names_that_a_page_may_have,
    ),
];

/// Writes empty records, in batches.
fn put_all(subject: &Subject, space: &str, records: impl IntoIterator<Item = String>) {
    let records: Vec<String> = records.into_iter().collect();
    for batch in records.chunks(BATCH_OPERATIONS_MAX) {
        let operations = batch.iter().map(|record| put(record, "")).collect();
        let answer = subject.apply(&namespace(space), operations, &Quota::UNLIMITED);
        assert_eq!(answer.expect("the batch is done").len(), batch.len());
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("name {index}")).collect()
}

fn pages_of_every_size_give_each_name_once_in_one_order(subject: &mut Subject) {
    let space = namespace("space");
    put_all(subject, "space", numbered(60));
    put_all(subject, "other", numbered(5));
    subject.step();
    let order = subject.names(&space, "", 1000);
    assert_eq!(BTreeSet::from_iter(order.clone()), BTreeSet::from_iter(numbered(60)));
    assert_eq!(order.len(), 60);
    for limit in [1, 2, 7, 59, 60, 61, PAGE_NAMES_MAX] {
        subject.step();
        let pages = subject.pages(&space, "", limit);
        assert!(pages.iter().all(|page| page.names.len() <= limit), "pages of {limit}");
        let names: Vec<String> = super::subject::names(pages);
        assert_eq!(names, order, "pages of {limit}");
    }
    assert_eq!(subject.names(&namespace("nothing"), "", 10), [""; 0]);
}

fn a_prefix_chooses_names(subject: &mut Subject) {
    let space = namespace("space");
    let all = ["a", "ab", "abc", "b", "é", "éa", "e\u{301}", "AB", " a", "a/b", "a/c"];
    put_all(subject, "space", all.map(str::to_owned));
    subject.step();
    for prefix in [
        "",
        "a",
        "ab",
        "abc",
        "abcd",
        "a/",
        "b",
        "é",
        "e",
        "A",
        " ",
        "x",
        "a\0",
        "\u{10ffff}",
    ] {
        let expected = all
            .iter()
            .filter(|one| one.starts_with(prefix))
            .map(|one| (*one).to_owned());
        for limit in [1, 3, 100] {
            let listed = subject.names(&space, prefix, limit);
            assert_eq!(
                BTreeSet::from_iter(listed.clone()),
                BTreeSet::from_iter(expected.clone()),
                "{prefix:?}"
            );
            assert_eq!(listed.len(), expected.clone().count(), "{prefix:?}");
        }
    }
    assert_eq!(subject.names(&space, &"a".repeat(100_000), 10), [""; 0]);
}

fn a_prefix_that_nothing_matches_is_looked_for_in_bounded_steps(subject: &mut Subject) {
    let space = namespace("space");
    let count = LIST_EXAMINED_MAX + 500;
    put_all(subject, "space", numbered(count));
    subject.step();
    let pages = subject.pages(&space, "nothing begins like this", 10);
    assert!(
        pages.iter().all(|page| page.names.is_empty()),
        "names that do not match: {pages:?}"
    );
    assert!(pages.len() > 1, "one call looked at {count} records");
    put_all(subject, "space", ["needle".to_owned()]);
    assert_eq!(subject.names(&space, "needle", 10), ["needle"]);
    // Expired records are looked at too: they must not make a call read on.
    for batch in numbered(count).chunks(BATCH_OPERATIONS_MAX) {
        let operations = batch.iter().map(|record| delete(record)).collect();
        let answer = subject.apply(&space, operations, &Quota::UNLIMITED);
        answer.expect("the batch is done");
    }
    assert_eq!(subject.names(&space, "", 10), ["needle"]);
}

fn a_listing_goes_on_while_names_come_and_go(subject: &mut Subject) {
    let space = namespace("space");
    let stays: Vec<String> = (0..40).map(|index| format!("stays {index}")).collect();
    put_all(subject, "space", stays.clone());
    put_all(subject, "space", (0..40).map(|index| format!("goes {index}")));
    let mut listed: Vec<String> = Vec::new();
    let mut cursor = None;
    for round in 0.. {
        let page = subject.list(&space, "", cursor.as_deref(), 5).expect("a page");
        // The name that the cursor stands at goes too, and so do some that are yet to come.
        for one in &page.names {
            if one.as_str().starts_with("goes") {
                subject
                    .delete(&space, one, Precondition::Any)
                    .expect("the record is deleted");
            } else {
                assert_eq!(subject.put_value(&space, one.as_str(), "rewritten"), 2);
            }
        }
        let going = name(&format!("goes {round}"));
        subject.delete(&space, &going, Precondition::Any).expect("an answer");
        subject.put_value(&space, &format!("comes {round}"), "");
        listed.extend(page.names.iter().map(|one| one.as_str().to_owned()));
        subject.step();
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
        assert!(round < 1000, "the listing does not end");
    }
    let once: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a name came twice");
    let stayed = listed.iter().filter(|one| one.starts_with("stays"));
    assert_eq!(
        stayed.count(),
        stays.len(),
        "a name that was there all the time is missing"
    );
}

fn a_cursor_is_good_for_its_namespace_and_prefix_alone(subject: &mut Subject) {
    let (space, other) = (namespace("space"), namespace("other"));
    for one in ["space", "other"] {
        put_all(subject, one, numbered(30));
    }
    let made = |subject: &Subject, prefix: &str| {
        let page = subject.list(&space, prefix, None, 3).expect("a page");
        page.cursor.expect("there is more")
    };
    let (all, some) = (made(subject, ""), made(subject, "name"));
    subject.step();
    let mut refused = vec![
        (&other, "", all.clone()),
        (&other, "name", some.clone()),
        (&space, "name", all.clone()),
        (&space, "", some.clone()),
        (&space, "name ", some.clone()),
        (&namespace("nothing"), "", all.clone()),
        (&space, "", String::new()),
        (&space, "", "x".to_owned()),
        (&space, "", "\0".to_owned()),
        (&space, "", "é".repeat(50)),
        (&space, "", "0".repeat(1_000_000)),
        (&space, "", format!("{all}0")),
        (&space, "", format!(" {all}")),
        (&space, "", all.repeat(2)),
    ]
    .into_iter()
    .map(|(space, prefix, cursor)| (space.clone(), prefix, cursor))
    .collect::<Vec<_>>();
    // Each of its letters changed, and cut off at each.
    for (at, letter) in all.char_indices() {
        let other = if letter == '1' { '2' } else { '1' };
        let changed = format!("{}{other}{}", &all[..at], &all[at + letter.len_utf8()..]);
        refused.push((space.clone(), "", changed));
        refused.push((space.clone(), "", all[..at].to_owned()));
    }
    for (space, prefix, cursor) in refused {
        let answer = subject.list(&space, prefix, Some(&cursor), 3);
        assert!(
            matches!(answer, Err(StoreError::Cursor)),
            "{prefix:?}: {cursor:?}: {answer:?}"
        );
    }
    for (prefix, cursor) in [("", all), ("name", some)] {
        let page = subject.list(&space, prefix, Some(&cursor), 3).expect("its own");
        assert_eq!(page.names.len(), 3);
    }
}

fn a_page_has_at_most_the_names_that_a_page_may_have(subject: &mut Subject) {
    let space = namespace("space");
    put_all(subject, "space", numbered(PAGE_NAMES_MAX + 10));
    subject.step();
    for (limit, expected) in [
        (PAGE_NAMES_MAX + 1, PAGE_NAMES_MAX),
        (usize::MAX, PAGE_NAMES_MAX),
        (0, 1),
    ] {
        let page = subject.list(&space, "", None, limit).expect("a page");
        assert_eq!(page.names.len(), expected, "a limit of {limit}");
        assert!(page.cursor.is_some(), "a limit of {limit}");
    }
    let all = subject.names(&space, "", usize::MAX);
    assert_eq!(all.len(), PAGE_NAMES_MAX + 10);
}
