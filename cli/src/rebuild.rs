//! One session file again, from the ledger: which events made it up, in what order, and whether the bytes are
//! exactly those that an extent wrote down.

use burnlog_log::{
    Address, Body, Error, ErrorKind, Frontier, Ledger, Limit, PayloadHash, Result, Root, Skeleton,
    SkeletonFrozen, WriterId, leaf,
};
use burnlog_projections::{Extent, Queries, RecordClass, RecordPlace, records, stream_feeds};
use std::collections::BTreeMap;
use std::io::Write;

/// How many record numbers are looked at together.
const STRIDE: u64 = 1024;

/// What is to be rebuilt.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// The file at the moment of an extent, by the testimony of a feed that holds the extent at this index: every byte
    /// must fit.
    Extent {
        /// The extent.
        extent: Box<Extent>,
        /// The feed.
        feed: WriterId,
        /// Where the extent stands in it.
        index: u64,
    },
    /// As far as one feed saw it, each record in the version that it recorded last.
    SeenBy(WriterId),
}

/// What was rebuilt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rebuilt {
    /// Records written.
    pub(crate) records: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// BLAKE3 of the bytes.
    pub(crate) hash: PayloadHash,
}

/// Rebuilds streams of a ledger.
pub(crate) struct Rebuilder<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) queries: &'a dyn Queries,
}

/// One version of a record: its events in order (several for a record in parts).
type Version = Vec<(Address, PayloadHash)>;

impl Rebuilder<'_> {
    /// Returns the feed that saw most of a stream; of equals the one with the smaller id.
    pub(crate) fn best_witness(&self, source: &str, stream: &str) -> Result<Option<WriterId>> {
        let feeds = stream_feeds(self.queries, source, stream)?;
        let best = feeds.iter().max_by_key(|seen| (seen.records, std::cmp::Reverse(&seen.feed)));
        Ok(best.and_then(|seen| <[u8; 32]>::try_from(seen.feed.as_slice()).ok()).map(WriterId))
    }

    /// Writes the file to `out`.
    ///
    /// `Corrupt` when the bytes are not those of the extent, or an event cannot be read or was erased.
    pub(crate) fn write(
        &self,
        source: &str,
        stream: &str,
        wanted: &Wanted,
        out: &mut dyn Write,
    ) -> Result<Rebuilt> {
        let chooser = self.chooser(wanted)?;
        let mut writing = Writing {
            out,
            stream,
            hasher: blake3::Hasher::new(),
            bytes: 0,
            records: 0,
            list: Frontier::default(),
        };
        let end = match wanted {
            Wanted::Extent { extent, .. } => extent.records as u64,
            Wanted::SeenBy(_) => u64::MAX,
        };
        let mut first = 0;
        while first < end {
            let places = records(self.queries, source, stream, first..end.min(first + STRIDE))?;
            let last = places.last().map(|place| place.seq);
            let mut by_seq: BTreeMap<u64, Vec<RecordPlace>> = BTreeMap::new();
            for place in
                places.into_iter().filter(|place| place.class.is_line() || place.class == RecordClass::Tail)
            {
                by_seq.entry(place.seq).or_default().push(place);
            }
            for (seq, places) in by_seq {
                let version = chooser.choose(self, seq, &places)?;
                self.copy(&version, seq, &mut writing)?;
            }
            if last.is_none() {
                break;
            }
            first += STRIDE;
        }
        writing.end(wanted)
    }

    /// Returns the feeds that hold an extent, each with the index at which it does.
    pub(crate) fn witnesses(&self, extent: &Extent) -> Result<Vec<(WriterId, u64)>> {
        let mut witnesses = Vec::new();
        for head in self.ledger.feeds()? {
            let found = self.ledger.find(&head.feed, &[extent.place])?;
            witnesses.extend(found.first().and_then(|found| found.index).map(|index| (head.feed, index)));
        }
        Ok(witnesses)
    }

    fn chooser(&self, wanted: &Wanted) -> Result<Chooser> {
        let mut chosen: BTreeMap<u64, Vec<PayloadHash>> = BTreeMap::new();
        let (feed, before) = match wanted {
            Wanted::SeenBy(feed) => (*feed, u64::MAX),
            Wanted::Extent { extent, feed, index } => {
                for (seq, payload) in self.chosen(extent)? {
                    chosen.entry(seq).or_default().push(payload);
                }
                (*feed, *index)
            }
        };
        Ok(Chooser { chosen, feed, before })
    }

    /// Reads which versions an extent names, from its event.
    fn chosen(&self, extent: &Extent) -> Result<Vec<(u64, PayloadHash)>> {
        #[derive(serde::Deserialize)]
        struct Payload {
            chosen: Vec<(u64, PayloadHash)>,
        }
        let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, "restore", why).at(extent.place);
        let body = self.ledger.get(&[extent.place], Limit { entries: 1, bytes: u64::MAX })?.pop().flatten();
        let Some(Body::Present { payload, .. }) = body else {
            return Err(corrupt("the extent cannot be read"));
        };
        let payload: Payload = serde_json::from_slice(&payload).map_err(|error| {
            corrupt("the extent's list of chosen versions cannot be read").caused_by(error)
        })?;
        Ok(payload.chosen)
    }

    /// Copies the payloads of one record.
    fn copy(&self, version: &Version, seq: u64, writing: &mut Writing<'_>) -> Result<()> {
        writing.between()?;
        for (address, hash) in version {
            let body = self.ledger.get(&[*address], Limit { entries: 1, bytes: u64::MAX })?.pop().flatten();
            let lost = |why: &str| {
                Err(Error::new(ErrorKind::Corrupt, "restore", why)
                    .at(format_args!("{} record {seq}, {address}", writing.stream)))
            };
            match body {
                Some(Body::Present { payload, .. }) => writing.payload(&payload, hash)?,
                Some(Body::Erased { .. }) => return lost("the payload was erased"),
                Some(Body::Damaged { .. }) => return lost("the event cannot be read"),
                None => return lost("the ledger does not have the event"),
            }
        }
        writing.records += 1;
        Ok(())
    }

    /// Reads the skeletons of some events.
    fn skeletons(&self, places: &[RecordPlace]) -> Result<Vec<bytes::Bytes>> {
        let addresses: Vec<Address> = places.iter().map(|place| place.address).collect();
        let mut skeletons = Vec::with_capacity(places.len());
        while skeletons.len() < addresses.len() {
            for body in self.ledger.get(&addresses[skeletons.len()..], Limit::default())? {
                let at = addresses[skeletons.len()];
                match body {
                    Some(Body::Present { skeleton, .. } | Body::Erased { skeleton }) => {
                        skeletons.push(skeleton);
                    }
                    _ => {
                        return Err(
                            Error::new(ErrorKind::Corrupt, "restore", "the event cannot be read").at(at)
                        );
                    }
                }
            }
        }
        Ok(skeletons)
    }
}

/// Decides which version of a record is meant.
struct Chooser {
    /// By record number, what the extent names: the payloads in order.
    chosen: BTreeMap<u64, Vec<PayloadHash>>,
    /// The feed whose testimony counts.
    feed: WriterId,
    /// Only its entries below this index: what it recorded later is another state of the file.
    before: u64,
}

impl Chooser {
    fn choose(&self, from: &Rebuilder<'_>, seq: u64, places: &[RecordPlace]) -> Result<Version> {
        let skeletons = from.skeletons(places)?;
        let mut events = Vec::with_capacity(places.len());
        for (place, skeleton) in places.iter().zip(&skeletons) {
            let part = Skeleton::parse(skeleton).map_or(None, |skeleton| skeleton.position.part);
            events.push((
                place.address,
                SkeletonFrozen::parse(skeleton)?.payload,
                part.map_or(0, |part| part.number),
            ));
        }
        if let [(address, payload, _)] = events.as_slice() {
            return Ok(vec![(*address, *payload)]);
        }
        if let Some(named) = self.chosen.get(&seq) {
            let find = |payload: &PayloadHash| events.iter().find(|(_, hash, _)| hash == payload);
            let version: Version =
                named.iter().filter_map(find).map(|(address, hash, _)| (*address, *hash)).collect();
            return Ok(version);
        }
        self.latest(from, events)
    }

    /// Of each part the one that the feed recorded last; what it did not record only when there is nothing else.
    fn latest(&self, from: &Rebuilder<'_>, events: Vec<(Address, PayloadHash, u32)>) -> Result<Version> {
        let addresses: Vec<Address> = events.iter().map(|(address, ..)| *address).collect();
        let found = from.ledger.find(&self.feed, &addresses)?;
        let latest = found.iter().map(|found| found.index.filter(|index| *index < self.before));
        let mut parts: BTreeMap<u32, (Option<u64>, Address, PayloadHash)> = BTreeMap::new();
        for ((address, payload, part), index) in events.into_iter().zip(latest.collect::<Vec<_>>()) {
            let candidate = (index, address, payload);
            let kept = parts.entry(part).or_insert(candidate);
            if candidate > *kept {
                *kept = candidate;
            }
        }
        Ok(parts.into_values().map(|(_, address, payload)| (address, payload)).collect())
    }
}

/// The file while it is written.
struct Writing<'a> {
    out: &'a mut dyn Write,
    stream: &'a str,
    hasher: blake3::Hasher,
    bytes: u64,
    records: u64,
    list: Frontier,
}

impl Writing<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "restore", "writing failed").caused_by(error))
    }

    /// The newline of the record before.
    fn between(&mut self) -> Result<()> {
        if self.records > 0 { self.bytes(b"\n") } else { Ok(()) }
    }

    fn payload(&mut self, payload: &[u8], hash: &PayloadHash) -> Result<()> {
        self.list.push(leaf(&hash.0));
        self.bytes(payload)
    }

    fn end(mut self, wanted: &Wanted) -> Result<Rebuilt> {
        let newline = match wanted {
            Wanted::Extent { extent, .. } => extent.ends_with_newline,
            Wanted::SeenBy(_) => true,
        };
        if newline && self.records > 0 {
            self.bytes(b"\n")?;
        }
        if let Wanted::Extent { extent, .. } = wanted {
            let root = <[u8; 32]>::try_from(extent.root.as_slice()).map(Root).ok();
            if Some(self.list.root()) != root || self.bytes != extent.bytes as u64 {
                let message = format!(
                    "what the ledger has makes {} bytes in {} records and not the {} bytes in {} that were written down",
                    self.bytes, self.records, extent.bytes, extent.records
                );
                return Err(Error::new(ErrorKind::Corrupt, "restore", message).at(self.stream));
            }
        }
        let hash = PayloadHash(*self.hasher.finalize().as_bytes());
        Ok(Rebuilt { records: self.records, bytes: self.bytes, hash })
    }
}
