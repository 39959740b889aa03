//! Waiting for company: before a sync, those who lately appended at the same time are let in, so that one sync is for all of
//! them. Whoever appends alone never waits, and nobody who stays away is waited for twice.

use crate::store::{State, Store};
use crate::writer::Group;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

/// The most batches that a sync waits for.
const COMPANY_MAX: u64 = 64;
/// The part of the longest wait after which a sync begins when nobody came: they have something else to do.
const PAUSES: u32 = 8;

impl Group {
    /// How many batches are written and not settled.
    pub(crate) fn unsettled(&self) -> u64 {
        self.written - self.settled
    }

    /// Remembers who appends at the same time, after a sync and before what it settles is: those that shared it, and those
    /// that have written meanwhile.
    pub(crate) fn remember_company(&mut self) {
        self.company = self.unsettled().min(COMPANY_MAX);
    }

    /// Whether all are there whom a sync waits for.
    pub(crate) fn is_gathered(&self) -> bool {
        self.unsettled() >= self.company || self.is_draining
    }
}

impl Store {
    /// Waits for others who append, at most as long as the options say; the state is free meanwhile.
    pub(crate) fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.group.is_gathered() {
            return state;
        }
        let (begun, longest) = (Instant::now(), self.options.gather_max);
        state.group.is_gathering = true;
        while !state.group.is_gathered() {
            let left = longest.saturating_sub(begun.elapsed());
            let before = state.group.written;
            let waited = self.gathered.wait_timeout(state, left.min(longest / PAUSES));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if left.is_zero() || state.group.written == before {
                break;
            }
        }
        state.group.is_gathering = false;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a group remembers when `written` batches were written up to the end of a sync, of which `settled` were settled before.
    fn after_a_sync(settled: u64, written: u64) -> Group {
        let mut group = Group::default();
        (group.settled, group.written) = (settled, written);
        group.remember_company();
        (group.settled, group.written) = (written, written);
        group
    }

    #[test]
    fn as_many_are_waited_for_as_were_there_last_time_and_no_longer_than_once() {
        let mut group = after_a_sync(0, 8);
        group.written += 7;
        assert!(!group.is_gathered());
        group.written += 1;
        assert!(group.is_gathered());
        // Seven stayed away: the next sync waits for one.
        let mut group = after_a_sync(16, 17);
        group.written += 1;
        assert!(group.is_gathered());
        assert_eq!(after_a_sync(0, 1000).company, COMPANY_MAX);
    }

    #[test]
    fn nobody_is_waited_for_who_may_not_write() {
        let mut group = after_a_sync(0, 8);
        (group.written, group.is_draining) = (group.written + 1, true);
        assert!(group.is_gathered());
    }
}
