//! The contract of [`Backend`] in executable form. One list of cases; an adapter that passes
//! all of them is done. Cases are claims; refusals are tested as much as successes.
//!
//! ```text
//! struct Jsonl(tempfile::TempDir);
//! impl burnlog_log::conformance::Fixture for Jsonl {
//!     fn create() -> Self { … }
//!     fn open(&self) -> std::sync::Arc<dyn burnlog_log::Backend> { … }
//! }
//! burnlog_log::conformance!(Jsonl);
//! ```

#![allow(clippy::unwrap_used)] // these are tests; a failed unwrap is a failed claim

pub mod append;
pub mod build;
pub mod erase;
pub mod feeds;
pub mod laws;
pub mod read;

use crate::Backend;
use std::sync::Arc;

/// How the suite gets at a backend. Durability is the product, so every case may reopen.
pub trait Fixture {
    /// Makes a place for one new, empty ledger.
    fn create() -> Self
    where
        Self: Sized;

    /// Opens the ledger in that place for writing; the first call creates it. The suite drops what an earlier
    /// call returned before it calls again.
    fn open(&self) -> Arc<dyn Backend>;
}

/// Calls `$each!(module, case)` for every case of the suite; the one list of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($each:ident, $fixture:ty) => {
        $crate::$each! { $fixture, append:
            a_first_batch_is_read_back_as_written,
            batches_extend_a_feed_and_survive_reopening,
            what_is_done_ahead_is_of_one_append,
            a_stale_size_is_refused_whole,
            a_size_beyond_the_end_is_refused_whole,
            another_root_at_the_same_size_is_a_fork,
            an_address_already_in_the_feed_is_refused_whole,
            an_address_twice_in_one_batch_is_refused_whole,
            an_entry_without_its_event_is_missing,
            all_missing_addresses_are_named,
            a_known_event_needs_no_second_payload,
            a_known_event_sent_again_changes_nothing,
            an_empty_batch_is_refused,
            a_head_of_another_size_is_refused,
            a_batch_over_the_limits_is_refused_whole,
            every_payload_comes_back_byte_for_byte,
            large_payloads_and_skeletons_come_back,
            two_threads_on_two_feeds_lose_nothing,
            two_threads_on_one_feed_take_turns,
        }
        $crate::$each! { $fixture, read:
            pages_are_contiguous_and_within_limits,
            one_entry_is_returned_however_large,
            heads_cover_the_entries_of_a_page,
            beyond_the_end_there_is_only_the_state,
            an_unknown_feed_has_no_state,
            the_frontier_is_that_of_the_newest_head,
            find_tells_presence_and_index,
            get_returns_a_prefix_in_order,
            stat_counts_distinct_events,
        }
        $crate::$each! { $fixture, feeds:
            feeds_are_listed_in_order_and_paged,
            a_token_names_at_least_what_moved,
            an_unknown_token_means_everything,
            the_id_of_a_ledger_stays,
        }
        $crate::$each! { $fixture, erase:
            an_erased_payload_is_unreadable_and_the_rest_stays,
            erasing_an_absent_address_erases_nothing,
            an_erased_event_stays_erased_when_sent_again,
            an_event_may_arrive_erased,
            compacting_changes_nothing_that_a_reader_sees,
            a_sound_store_reports_no_damage,
        }
        $crate::$each! { $fixture, laws:
            the_same_batch_twice_stores_once,
            interleaved_writers_converge_by_replay,
            a_writer_goes_on_after_reopening,
        }
    };
}

/// Makes one `#[test]` of each case for a [`Fixture`](crate::conformance::Fixture).
#[macro_export]
macro_rules! conformance {
    ($fixture:ty) => {
        $crate::__conformance_cases! { __conformance_tests, $fixture }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($fixture:ty, $module:ident: $($case:ident,)*) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $case() {
                    let fixture = <$fixture as $crate::conformance::Fixture>::create();
                    $crate::conformance::$module::$case(&fixture);
                }
            )*
        }
    };
}
