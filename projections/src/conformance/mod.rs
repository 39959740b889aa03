//! The contract of [`FoldStore`] and [`Queries`] in executable form: one list of
//! cases, each a claim. A store that passes all of them is done.
//!
//! ```text
//! struct Sqlite(tempfile::TempDir);
//! impl burnlog_projections::conformance::Fixture for Sqlite {
//!     fn create() -> Self { … }
//!     fn open(&self) -> Box<dyn burnlog_projections::conformance::Store> { … }
//! }
//! burnlog_projections::fold_store_conformance!(Sqlite);
//! ```

#![allow(clippy::unwrap_used)] // these are tests; a failed unwrap is a failed claim

pub mod build;
pub mod folds;
pub mod halves;
pub mod hostile;
pub mod later;
pub mod leases;
pub mod queries;
pub mod rows;
pub mod store;

use crate::{FoldStore, Lease, Leasing, Queries};
use std::time::Duration;

/// A store of which both halves are tested together.
pub trait Store: FoldStore + Queries {
    /// Returns the half that folds write to.
    fn folds(&mut self) -> &mut dyn FoldStore;

    /// Returns the half that is asked.
    fn queries(&self) -> &dyn Queries;
}

impl<T: FoldStore + Queries + 'static> Store for T {
    fn folds(&mut self) -> &mut dyn FoldStore {
        self
    }

    fn queries(&self) -> &dyn Queries {
        self
    }
}

/// The views that people query with tools of their own, and what they show, for stores that have views: names that stay. A
/// store may show more of `content`.
pub const VIEWS: [(&str, &str); 7] = [
    (
        "turns",
        "source call request model input_tokens output_tokens cache_read_tokens cache_write_5m_tokens \
         cache_write_1h_tokens reasoning_tokens stop_reason complete service_tier speed clamped kept_at address session \
         stream seq copied timestamp cwd branch version sidechain agent contested project",
    ),
    (
        "calls",
        "source call request model input_tokens output_tokens cache_read_tokens cache_write_5m_tokens \
         cache_write_1h_tokens reasoning_tokens stop_reason complete service_tier speed clamped kept_at address session \
         stream seq copied timestamp cwd branch version sidechain agent contested",
    ),
    ("tool_results", "source tool_use tool call use_session session result_at is_error result_bytes"),
    ("content", "source stream seq address_begins_with ordinal kind start bytes tool_use"),
    ("relationships", "source from_session to_session kind agent stream at tool_use record address"),
    (
        "sessions",
        "source session project title first_at last_at streams calls incomplete_calls copied_calls input_tokens \
         output_tokens cache_read_tokens cache_write_5m_tokens cache_write_1h_tokens reasoning_tokens prompts \
         tool_uses tool_errors compactions notices",
    ),
    (
        "usage_daily",
        "day source model session price_class branch calls incomplete_calls input_tokens output_tokens \
         cache_read_tokens cache_write_5m_tokens cache_write_1h_tokens reasoning_tokens",
    ),
];

/// A time that no case outlives.
pub const LONG: Duration = Duration::from_secs(3600);

/// Takes the lease for a case that is not about it.
pub fn leased(store: &mut dyn FoldStore) -> Lease {
    match store.lease("a case", LONG, None).unwrap() {
        Leasing::Granted(lease) => lease,
        held @ Leasing::Held { .. } => panic!("{held:?}"),
    }
}

/// How the suite gets at a store. Durability is part of the contract, so every case may reopen.
pub trait Fixture {
    /// Makes a place for one new, empty store.
    fn create() -> Self
    where
        Self: Sized;

    /// Opens the store in that place; the first call creates it. Several may be open at once.
    fn open(&self) -> Box<dyn Store>;
}

/// Calls `$each!(module, case)` for every case of the suite; the one list of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __fold_store_cases {
    ($each:ident, $fixture:ty) => {
        $crate::$each! { $fixture, store:
            a_new_store_has_no_generation,
            the_first_generation_is_live_at_once,
            a_stale_revision_is_a_conflict_and_writes_nothing,
            failed_work_writes_nothing,
            a_cursor_moves_only_from_where_it_stands,
            what_was_committed_survives_reopening,
            a_generation_is_built_beside_the_live_one,
            a_generation_behind_the_live_one_is_not_promoted,
            a_generation_may_replace_one_that_has_more,
            the_live_generation_is_not_promoted_again,
            creating_again_replaces_what_is_being_built,
            a_commit_to_a_dropped_generation_is_a_conflict,
            settling_twice_is_fine,
            another_ledger_is_refused,
            a_newer_version_is_refused,
        }
        $crate::$each! { $fixture, leases:
            a_lease_is_granted_to_one_at_a_time,
            a_lease_given_back_is_free,
            tokens_grow_with_each_grant,
            a_holder_past_its_time_cannot_write,
            a_holder_that_another_followed_cannot_write,
            a_lease_is_renewed_where_nobody_else_came,
            a_holder_that_is_gone_is_followed_at_once,
            a_commit_begins_the_time_anew,
            a_projector_gives_the_lease_back,
            a_projector_says_who_is_folding,
            a_projector_follows_one_that_is_gone,
        }
        $crate::$each! { $fixture, rows:
            every_kind_of_value_comes_back,
            a_known_key_is_not_inserted_again,
            replacing_what_is_not_there_is_not_found,
            a_deleted_row_is_gone_and_may_come_again,
            rows_are_scanned_in_the_order_of_their_keys,
            a_scan_may_start_within_a_key,
            names_outlive_a_failed_commit,
            the_empty_name_is_a_name_like_any_other,
            answers_are_in_the_order_of_the_slice,
            a_slice_sees_what_the_transaction_wrote,
            a_key_that_comes_twice_is_invalid,
            half_a_row_is_invalid,
            an_empty_slice_does_nothing,
            many_rows_go_in_one_slice,
        }
        $crate::$each! { $fixture, folds:
            the_dump_is_that_of_any_other_store,
            a_log_folded_twice_is_folded_once,
            a_log_in_pieces_gives_the_same_dump,
            feeds_in_any_order_give_the_same_dump,
            a_rebuild_gives_the_same_dump,
            two_projectors_fold_everything_once,
            an_append_is_folded_from_memory,
            a_feed_that_shrank_is_refused_until_rebuilt,
            an_erased_record_is_counted,
            what_is_erased_after_it_was_folded_leaves_what_a_rebuild_leaves,
            a_receipt_of_what_is_not_erased_here_changes_nothing,
            what_was_erased_is_not_folded_from_memory,
            a_tail_counts_until_its_line_comes,
            a_split_record_is_counted_as_oversized,
            unknown_kinds_and_sources_are_counted,
            extents_and_writers_are_outside_the_dump,
        }
        $crate::$each! { $fixture, later:
            copies_of_calls_are_one_call_in_any_order,
            tool_uses_name_their_calls_in_any_order,
        }
        $crate::$each! { $fixture, queries:
            nothing_folded_is_not_found,
            lists_are_those_of_any_other_store,
            pages_put_together_are_the_whole_list,
            a_resume_of_another_list_is_invalid,
            sums_are_those_of_any_other_store,
            sums_without_calls_are_one_row_of_zeros,
            hosts_have_the_calls_that_they_recorded,
            sums_by_host_are_those_of_any_other_store,
            what_sessions_hang_together_with_is_that_of_any_other_store,
            blocks_put_together_are_the_whole_list,
            a_session_is_found_by_a_unique_prefix,
            records_are_found_by_number,
            streams_of_a_session_are_listed,
            a_query_goes_on_while_another_generation_is_built,
        }
        $crate::$each! { $fixture, hostile:
            whatever_records_say_is_folded_alike,
            no_text_is_too_long_for_an_index,
            sums_end_at_the_greatest_number,
        }
    };
}

/// Makes one `#[test]` of each case for a [`Fixture`](crate::conformance::Fixture).
#[macro_export]
macro_rules! fold_store_conformance {
    ($fixture:ty) => {
        $crate::__fold_store_cases! { __fold_store_tests, $fixture }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __fold_store_tests {
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
