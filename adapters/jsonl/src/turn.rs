//! Who waits for a sync, each at a place of its own: whoever syncs tells everybody what became of its batch, and one of those
//! whose batch came too late that the next sync is theirs. Nobody takes the state again only to look.

use crate::store::State;
use crate::writer::Group;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Thread, current, park};

/// What one who waits is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// Its batch is durable, or failed and why.
    Settled(Result<(), String>),
    /// To sync, for all that is written.
    Sync,
}

/// One who waits.
#[derive(Debug)]
struct Place {
    told: Mutex<Option<Told>>,
    thread: Thread,
}

/// One who waits, with the number of its batch.
#[derive(Debug)]
pub(crate) struct Waiting {
    ticket: u64,
    place: Arc<Place>,
}

/// Those who are to be told something, once the state is free.
#[derive(Debug, Default)]
#[must_use = "whoever waits is told"]
pub(crate) struct Telling(Vec<(Arc<Place>, Told)>);

impl Telling {
    /// Tells them.
    pub(crate) fn tell(self) {
        for (place, told) in self.0 {
            *place.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
            place.thread.unpark();
        }
    }
}

impl Group {
    /// Returns what became of a batch that is settled.
    pub(crate) fn outcome(&self, ticket: u64) -> Result<(), String> {
        debug_assert!(ticket <= self.settled, "asked of settled batches alone");
        self.failure(ticket).map_or(Ok(()), |why| Err(why.to_owned()))
    }

    /// Takes out those whose batches are settled. Where others are left, the sync is handed to the first of them.
    pub(crate) fn hand_over(&mut self) -> Telling {
        let mut telling = Vec::new();
        let settled = self.waiting.iter().take_while(|waiting| waiting.ticket <= self.settled).count();
        let settled: Vec<Waiting> = self.waiting.drain(..settled).collect();
        if !self.is_syncing
            && let Some(next) = self.waiting.pop_front()
        {
            self.is_syncing = true;
            // First, so that the disk has something to do while the others are woken.
            telling.push((next.place, Told::Sync));
        }
        for Waiting { ticket, place } in settled {
            telling.push((place, Told::Settled(self.outcome(ticket))));
        }
        Telling(telling)
    }
}

/// Waits for whoever syncs; the state is free meanwhile.
pub(crate) fn wait_for_turn(mut state: MutexGuard<'_, State>, ticket: u64) -> Told {
    let place = Arc::new(Place { told: Mutex::default(), thread: current() });
    // The state was not free since the batch was written, so they stand in the order of their batches.
    state.group.waiting.push_back(Waiting { ticket, place: Arc::clone(&place) });
    drop(state);
    loop {
        if let Some(told) = place.told.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return told;
        }
        park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group of so many batches, the first of which is about to sync and the others wait.
    fn group(written: u64) -> (Group, Vec<Arc<Place>>) {
        let mut group = Group::default();
        group.written = written;
        let places: Vec<Arc<Place>> =
            (1..written).map(|_| Arc::new(Place { told: Mutex::default(), thread: current() })).collect();
        let waiting = (2..).zip(&places).map(|(ticket, place)| Waiting { ticket, place: Arc::clone(place) });
        group.waiting = waiting.collect();
        (group, places)
    }

    fn told(places: &[Arc<Place>]) -> Vec<String> {
        places.iter().map(|place| format!("{:?}", place.told.lock().unwrap().take())).collect()
    }

    #[test]
    fn who_is_settled_is_told_and_the_first_of_the_others_syncs() {
        let (mut group, places) = group(5);
        group.settled = 3;
        let telling = group.hand_over();
        assert!(matches!(telling.0[0].1, Told::Sync), "the disk has to wait for nobody");
        telling.tell();
        let settled = "Some(Settled(Ok(())))";
        assert_eq!(told(&places), [settled, settled, "Some(Sync)", "None"]);
        assert!(group.is_syncing, "nobody else begins");
        // The one that was told to sync has settled all.
        (group.settled, group.is_syncing) = (5, false);
        group.hand_over().tell();
        assert_eq!(told(&places), ["None", "None", "None", settled]);
        assert!(!group.is_busy() && group.waiting.is_empty());
    }

    #[test]
    fn of_a_group_that_failed_everybody_is_told_why_and_nobody_syncs() {
        let (mut group, places) = group(3);
        group.fail("no space".to_owned());
        group.hand_over().tell();
        assert_eq!(told(&places), ["Some(Settled(Err(\"no space\")))"; 2]);
        assert!(!group.is_busy());
    }
}
