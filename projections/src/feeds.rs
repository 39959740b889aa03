//! Who wrote which feed, and which feed saw which stream. Relations beside the rows, never part of a dump
//! unless hosts are asked for.

use crate::Derived;
use crate::table::{Merge, row};
use crate::text::{Name, plain_text};

row! {
    /// A feed and the last thing that it says of its writer.
    pub struct Feed in "feeds" dumped false
    key {
        /// The writer's key: 32 bytes.
        feed: Vec<u8>,
    }
    /// The host's label.
    host: Option<Name>,
    /// The index of the `writer` event that says so.
    host_index: i64,
    /// The payload of that event.
    writer: Option<String>,
}

row! {
    /// A stream of which a feed has records.
    pub struct StreamFeed in "stream_feeds" dumped false
    key {
        /// The source.
        source: Name,
        /// The stream.
        stream: Name,
        /// The writer's key: 32 bytes.
        feed: Vec<u8>,
    }
    /// The highest record number that this feed has, and one.
    records: i64,
}

impl Feed {
    /// Reads a `writer` event at `index` of a feed. The label is the payload's `host`.
    pub(crate) fn of_payload(feed: &burnlog_log::WriterId, index: u64, payload: Option<&[u8]>) -> Self {
        #[derive(serde::Deserialize)]
        struct Writer<'a> {
            #[serde(borrow)]
            host: Option<std::borrow::Cow<'a, str>>,
        }
        let fields = payload.and_then(|payload| serde_json::from_slice::<Writer<'_>>(payload).ok());
        let text = payload.map(|payload| plain_text(&String::from_utf8_lossy(payload)).into_owned());
        Self {
            feed: feed.0.to_vec(),
            host: fields.and_then(|fields| fields.host).map(|host| Name::from(&*host)),
            host_index: index as i64,
            writer: text,
        }
    }
}

impl Merge for Feed {
    fn merge(&mut self, other: Self) {
        let key = |row: &Self| (row.host_index, row.host.clone(), row.writer.clone());
        if key(&other) > key(self) {
            *self = other;
        }
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}

impl Merge for StreamFeed {
    fn merge(&mut self, other: Self) {
        self.records = self.records.max(other.records);
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}
