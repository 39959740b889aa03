//! Entries being read: lines first, then all their hashes at once, because many are hashed faster side by side than one by one.

use crate::block::{Block, Content, Event, Skeleton};
use crate::blocks::Unreadable;
use burnlog_log::{Address, Body, Entry, Incomplete};
use bytes::Bytes;

/// Entries being read, whose skeletons are partly put together in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    skeletons: Vec<u8>,
    bodies: Vec<Pending>,
}

#[derive(Debug)]
enum Pending {
    Damaged(Address, Body),
    Event(Event),
}

impl Bodies {
    /// Reads the line of a slot. A reference to an event elsewhere is returned and adds nothing.
    pub(crate) fn read(&mut self, block: &Block, slot: u32) -> Option<Content> {
        block.content(slot, &mut self.skeletons)
    }

    /// Returns the address of an event that was read; computes it where the line does not tell it.
    pub(crate) fn address(&mut self, event: &mut Event) -> Address {
        event.address(&mut self.skeletons)
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.bodies.push(Pending::Event(event));
    }

    pub(crate) fn push_damaged(&mut self, address: Address, unreadable: Unreadable) {
        self.bodies.push(Pending::Damaged(address, unreadable.body()));
    }

    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Returns the bytes of the last body.
    pub(crate) fn last_bytes(&self) -> u64 {
        let Some(Pending::Event(event)) = self.bodies.last() else { return 0 };
        let skeleton = match &event.skeleton {
            Skeleton::Stored(_, bytes) => bytes.len(),
            Skeleton::Cut(incomplete) => incomplete.range().len(),
            Skeleton::Restored(completed) => completed.range().len(),
        };
        (skeleton + event.payload.as_ref().map_or(0, Bytes::len)) as u64
    }

    pub(crate) fn pop(&mut self) {
        self.bodies.pop();
    }

    /// Hands over all entries; `is_erased` tells whose payload may not be read.
    pub(crate) fn finish(mut self, is_erased: impl Fn(&Address) -> bool) -> impl Iterator<Item = Entry> {
        self.complete();
        let skeletons = Bytes::from(self.skeletons);
        self.bodies.into_iter().map(move |pending| {
            let Event { skeleton, payload } = match pending {
                Pending::Damaged(address, body) => return Entry::new(address, body),
                Pending::Event(event) => event,
            };
            let body = |address: &Address, skeleton: Bytes| match payload.filter(|_| !is_erased(address)) {
                Some(payload) => Body::Present { skeleton, payload },
                None => Body::Erased { skeleton },
            };
            match skeleton {
                Skeleton::Stored(address, bytes) => Entry::new(address, body(&address, bytes)),
                Skeleton::Restored(completed) => {
                    let bytes = skeletons.slice(completed.range());
                    Entry::of_completed(&completed, body(&completed.address(), bytes))
                }
                Skeleton::Cut(_) => unreachable!("complete() leaves none"),
            }
        })
    }

    /// Hashes what was not hashed yet.
    fn complete(&mut self) {
        let cut = self.bodies.iter().filter_map(|pending| match pending {
            Pending::Event(Event { skeleton: Skeleton::Cut(incomplete), payload: Some(payload) }) => {
                Some((incomplete.clone(), &**payload))
            }
            _ => None,
        });
        let cut: Vec<(Incomplete, &[u8])> = cut.collect();
        let mut completed = Incomplete::complete(&mut self.skeletons, &cut).into_iter();
        drop(cut);
        for pending in &mut self.bodies {
            if let Pending::Event(Event { skeleton: skeleton @ Skeleton::Cut(_), .. }) = pending
                && let Some(completed) = completed.next()
            {
                *skeleton = Skeleton::Restored(completed);
            }
        }
    }
}
