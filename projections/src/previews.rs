//! The beginnings of texts, for people who look at a store with its own tools. Kept only where the texts themselves lie
//! in the same file: rows of any other store hold places and no text.

use crate::Derived;
use crate::content::Block;
use crate::search::SearchKind;
use crate::search_text::block_beginning;
use crate::table::{Merge, row};

/// How many characters of a text a preview has.
pub const PREVIEW_CHARACTERS: usize = 200;

row! {
    /// The beginning of the text of a block. Blocks without text (`image` …) have none.
    pub struct Preview in "previews" dumped false
    key {
        /// The first 12 hex digits of the event's address, as in [`Content`](crate::Content).
        address_begins_with: String,
        /// The record number.
        seq: i64,
        /// The number of the block in its record.
        ordinal: i64,
    }
    /// The first [`PREVIEW_CHARACTERS`] characters, without NUL.
    text: String,
}

impl Merge for Preview {
    /// One event has one text; of two, which a collision of addresses would take, the first in order stays.
    fn merge(&mut self, other: Self) {
        if other.text < self.text {
            self.text = other.text;
        }
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}

impl Preview {
    /// Returns the preview of a block of a record, if it has text.
    pub(crate) fn of_block(block: &Block<'_>, payload: &[u8]) -> Option<Self> {
        let kind = SearchKind::of_block(&block.kind)?;
        let start = usize::try_from(block.start).ok()?;
        let end = start.checked_add(usize::try_from(block.bytes).ok()?)?;
        let text = block_beginning(kind, payload.get(start..end)?, PREVIEW_CHARACTERS);
        (!text.is_empty()).then(|| Self {
            address_begins_with: block.address.to_owned(),
            seq: i64::try_from(block.seq).unwrap_or(i64::MAX),
            ordinal: block.ordinal.into(),
            text,
        })
    }
}
