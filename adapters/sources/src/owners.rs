//! Which streams lie in more than one file: a session in two homes, or one that was moved.

use crate::cursor_file::CursorFile;
use crate::discover::Plan;
use crate::source::Stream;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// The files of each stream, as far as it matters: the first one, and whether there is another. Streams and paths are
/// kept as keyed hashes of 64 bits, because there is one for each cursor at every start: two streams that meet are taken for a
/// shared one, which costs a longer extent and nothing else.
#[derive(Debug)]
pub(crate) struct Owners {
    hashing: RandomState,
    streams: HashMap<u64, Owner>,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    path: u64,
    is_shared: bool,
}

impl Owners {
    /// Takes in what the cursors remember and what is planned.
    pub(crate) fn new(plan: &Plan, cursors: &CursorFile) -> Self {
        let streams = HashMap::with_capacity(cursors.len().max(plan.files.len()));
        let mut owners = Self { hashing: RandomState::new(), streams };
        for (path, head) in cursors.heads().filter(|(_, head)| !head.is_blank()) {
            owners.add(head.source, head.stream, path);
        }
        for file in &plan.files {
            if let Stream::Named(stream) = &file.identity.stream {
                owners.add(file.source.name(), stream.as_str(), &file.path);
            }
        }
        owners
    }

    /// Adds a file of a stream; returns whether the stream has another one.
    pub(crate) fn add(&mut self, source: &str, stream: &str, path: &Path) -> bool {
        let stream = self.hashing.hash_one((source, stream));
        // Not as a path, which is taken apart to be hashed.
        let path = self.hashing.hash_one(path.as_os_str());
        let owner = self.streams.entry(stream).or_insert(Owner { path, is_shared: false });
        owner.is_shared |= owner.path != path;
        owner.is_shared
    }
}
