//! Extents: what made up a stream's file at one moment. What `restore` rebuilds files from.

use crate::Derived;
use crate::json::{self, Count, Flag, Text, lenient};
use crate::table::{Merge, row};
use crate::text::Name;
use burnlog_log::{Address, Root};

row! {
    /// One extent. Not shown by `project dump`: which moments were recorded depends on when who read the file.
    pub struct Extent in "extents" dumped false
    key {
        /// The source.
        source: Name,
        /// The stream.
        stream: Name,
        /// The address of the `extent` event, whose payload holds the chosen versions.
        place: Address,
    }
    /// The RFC 6962 root over the payload hashes: 32 bytes.
    root: Vec<u8>,
    /// The records of the file.
    records: i64,
    /// The bytes of the file.
    bytes: i64,
    /// Whether its last record ends with a newline.
    ends_with_newline: bool,
}

impl Merge for Extent {
    fn merge(&mut self, other: Self) {
        // The key is the address of the whole row: two rows with it are one, unless the folds differ.
        let rest = |row: &Self| (row.records, row.bytes, row.root.clone(), row.ends_with_newline);
        if rest(&other) > rest(self) {
            *self = other;
        }
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}

lenient! {
    struct Payload<'a> {
        stream: Text<'a> = b"stream",
        records: Count = b"records",
        bytes: Count = b"bytes",
        ends_with_newline: Flag = b"ends_with_newline",
        root: Text<'a> = b"root",
    }
}

impl Extent {
    /// Reads the payload of an `extent` event of `source`; `None` when it is not one.
    pub(crate) fn of_payload(source: &Name, place: Address, payload: &[u8]) -> Option<Self> {
        let text = json::text_of(payload);
        let fields: Payload<'_> = json::read(&text)?;
        let root = Root::parse(fields.root.as_deref()?.as_bytes())?;
        Some(Self {
            source: source.clone(),
            stream: Name::from(fields.stream.as_deref()?),
            place,
            root: root.0.to_vec(),
            records: fields.records.value?,
            bytes: fields.bytes.value?,
            ends_with_newline: fields.ends_with_newline.0?,
        })
    }
}
