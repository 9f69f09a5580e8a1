//! What a backend must pass. Every implementation of [`RecordStore`] is held to the same cases, in this repository and
//! outside: a contract that each backend reads in its own way is none. It knows no backend; what it is given is a way to
//! open one. Compiled for the tests of this crate, and with the feature `testing` for others.
//!
//! A crate with a backend of its own takes `aral-memory` with that feature as a development dependency and writes:
//!
//! ```text
//! fn place() -> impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> {
//!     let folder = tempfile::tempdir().unwrap();
//!     move |clock| Arc::new(MyStore::open(folder.path(), clock).unwrap())
//! }
//!
//! aral_memory::record_store_contract!(place);
//! ```
//!
//! Each call of `place` is a new and empty place. What it returns opens the store there, and is called again, after the store
//! was dropped, to open the same records once more. The store takes the time from the clock that it is given. The macro makes
//! one test of each case; each runs twice, once with the store open all the time, once with the store closed and opened
//! again between its steps. [`random::check`] runs operations drawn at random on the backend and on the [`model`] side by side.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests, whoever runs them: a test fails by panicking"
)]

mod batches;
mod concurrency;
mod expiry;
mod limits;
mod listing;
pub mod model;
mod quota;
pub mod random;
mod records;
mod subject;

#[cfg(test)]
mod tests;

pub use aral_contract::testing::ManualClock;
pub use subject::Subject;

use std::sync::Arc;

use aral_contract::Clock;

use crate::RecordStore;

/// One case of the contract: its name, and what it does with a new store.
pub type Case = (&'static str, fn(&mut Subject));

/// All cases.
pub const CASES: &[&[Case]] = &[
    records::CASES,
    batches::CASES,
    expiry::CASES,
    listing::CASES,
    quota::CASES,
    limits::CASES,
    concurrency::CASES,
];

/// Runs the case `name` at two new places: with the store open all the time, and opened again between the steps.
///
/// # Panics
/// If the store breaks the contract, or if there is no such case.
pub fn run<Place, Open>(name: &str, place: Place)
where
    Place: Fn() -> Open,
    Open: FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> + 'static,
{
    let (_, case) = CASES
        .iter()
        .copied()
        .flatten()
        .find(|(known, _)| *known == name)
        .expect("a case of the contract");
    case(&mut Subject::new(place()));
    case(&mut Subject::reopened_between_steps(place()));
}

/// Whether `listed` are the names of all cases, in order. The macro [`crate::record_store_contract`] asks
/// this, so that a case cannot be left out of its list.
///
/// # Panics
/// If they are not.
pub fn assert_every_case_is_listed(listed: &[&str]) {
    let names: Vec<&str> = CASES.iter().copied().flatten().map(|(name, _)| *name).collect();
    assert_eq!(listed, names);
}

/// Makes one test of each case of the contract. `$place` is a function that makes a new place and returns how to open the
/// store there; see [`crate::testing`].
#[macro_export]
macro_rules! record_store_contract {
    ($place:path) => {
        $crate::record_store_contract! { $place;
            what_was_put_is_read_back
            versions_count_writes_and_start_again_after_a_delete
            a_delete_says_what_was_there_and_leaves_nothing
            a_precondition_that_does_not_hold_changes_nothing
            namespaces_do_not_see_each_other
            names_that_look_alike_are_different_records
            a_tag_is_the_same_for_the_same_record_alone
            a_classification_is_that_of_the_last_write
            a_store_prints_no_value_and_no_name
            a_batch_is_answered_step_by_step
            a_batch_with_a_step_that_fails_does_nothing
            a_name_may_occur_once_in_a_batch
            an_empty_batch_does_nothing
            a_record_is_gone_at_its_moment_without_a_sweep
            a_write_replaces_the_time_to_live
            an_expired_record_is_absent_to_every_precondition
            a_sweep_is_bounded_and_takes_the_expired_alone
            a_sweep_leaves_what_was_written_in_place_of_an_expired_record
            a_time_to_live_is_counted_between_seconds
            pages_of_every_size_give_each_name_once_in_one_order
            a_prefix_chooses_names
            a_prefix_that_nothing_matches_is_looked_for_in_bounded_steps
            a_listing_goes_on_while_names_come_and_go
            a_cursor_is_good_for_its_namespace_and_prefix_alone
            a_page_has_at_most_the_names_that_a_page_may_have
            usage_is_names_and_values_of_what_is_there
            bytes_are_bounded_to_the_byte
            records_are_bounded
            a_batch_is_held_to_the_quota_as_a_whole
            what_takes_no_more_is_done_under_any_quota
            what_has_expired_keeps_nothing_out
            a_quota_bounds_its_namespace_alone
            namespaces_are_those_that_hold_something
            a_value_may_have_its_most_bytes_and_no_more
            a_batch_may_have_its_most_operations_and_bytes_and_no_more
            a_time_to_live_has_one_second_to_a_hundred_years
            one_of_many_swaps_wins
            readers_see_a_whole_value_of_a_version_that_never_goes_back
            usage_is_exact_after_many_writers
            a_listing_beside_writers_gives_what_stays_once
        }
    };
    ($place:path; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::testing::run(stringify!($case), $place);
            }
        )*

        #[test]
        fn every_case_of_the_contract_is_tested() {
            $crate::testing::assert_every_case_is_listed(&[$(stringify!($case)),*]);
        }
    };
}
