//! Packs: the entries of a large batch, compressed together before they are written and put into one line of an active segment.
//! What is in them are the lines of a sealed segment, so sealing takes them over as they are. The README is the normative text.

use crate::block::{Block, Content};
use crate::line::{Rest, begin_line, end_line, push_compact};
use crate::recover::ScannedEntry;
use crate::sealed::{FRAME_BYTES_MAX, decompress};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use burnlog_log::limits::BATCH_ENTRIES_MAX;
use burnlog_log::{Address, push_number};
use bytes::Bytes;
use std::{fmt, io};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound, get_frame_content_size};

/// A pack taken from its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pack<'a> {
    pub(crate) numbers: Numbers,
    /// The frame in base64.
    text: &'a [u8],
}

/// What the line of a pack says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    /// The position of the first entry in the batch.
    pub(crate) first: u32,
    pub(crate) entries: u32,
    /// How many of them have their event here, and the bytes of the payloads of these.
    pub(crate) events: u32,
    pub(crate) payload_bytes: u64,
    /// The bytes of the lines.
    pub(crate) plain_bytes: u32,
}

impl<'a> Pack<'a> {
    /// Takes apart what an active line's checksum covers; `None` for any other line.
    pub(crate) fn parse(covered: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(covered);
        let mut number = |name: &[u8]| {
            rest.literal(name)?;
            rest.number()
        };
        let numbers = Numbers {
            first: u32::try_from(number(b"\"pack\":")?).ok()?,
            entries: u32::try_from(number(b",\"entries\":")?).ok()?,
            events: u32::try_from(number(b",\"events\":")?).ok()?,
            payload_bytes: number(b",\"payload_bytes\":")?,
            plain_bytes: u32::try_from(number(b",\"bytes\":")?).ok()?,
        };
        rest.literal(b",\"zstd\":\"")?;
        let text = rest.0.strip_suffix(b"\"}")?;
        let end = numbers.first.checked_add(numbers.entries)?;
        // Numbers that no writer writes are damage, whatever the checksum says.
        let is_possible = numbers.entries > 0
            && end as usize <= BATCH_ENTRIES_MAX
            && u64::from(numbers.plain_bytes) <= FRAME_BYTES_MAX;
        is_possible.then_some(Self { numbers, text })
    }

    /// Returns the frame as it stands in a sealed segment.
    pub(crate) fn frame(&self) -> Option<Vec<u8>> {
        let frame = BASE64.decode(self.text).ok()?;
        let plain_bytes = get_frame_content_size(&frame).ok()??;
        (plain_bytes == u64::from(self.numbers.plain_bytes)).then_some(frame)
    }

    /// Returns the lines.
    pub(crate) fn plain(&self) -> Option<Bytes> {
        let plain = decompress(&self.frame()?, self.numbers.plain_bytes as usize).ok()?;
        (plain.len() == self.numbers.plain_bytes as usize).then(|| plain.into())
    }

    /// Reads all entries; `None` where one of them cannot be read or their numbers are not those of the line.
    pub(crate) fn scan(&self) -> Option<Vec<ScannedEntry>> {
        let block = Block::of_sealed(self.plain()?, 0);
        let mut found = Numbers { plain_bytes: self.numbers.plain_bytes, ..Numbers::default() };
        found.first = self.numbers.first;
        let mut entries = Vec::with_capacity(block.entry_count());
        let mut skeletons = Vec::new();
        for slot in 0..block.entry_count() as u32 {
            skeletons.clear();
            let (address, event) = match block.content(slot, &mut skeletons)? {
                Content::Event(mut event) => (event.address(&mut skeletons), Some(event)),
                Content::Reference(address) => (address, None),
            };
            let payload_bytes = event.as_ref().and_then(|event| event.payload.as_ref()).map_or(0, Bytes::len);
            found.entries += 1;
            found.events += u32::from(event.is_some());
            found.payload_bytes += payload_bytes as u64;
            entries.push(ScannedEntry {
                ordinal: self.numbers.first + slot,
                address,
                has_event: event.is_some(),
                is_erased: event.is_some_and(|event| event.payload.is_none()),
                payload_bytes: payload_bytes as u32,
            });
        }
        (found == self.numbers && block.commits().next().is_none()).then_some(entries)
    }
}

/// Makes packs, in memory that is used again.
pub(crate) struct Packer {
    compressor: Compressor<'static>,
    recomputes_hashes: bool,
    numbers: Numbers,
    plain: Vec<u8>,
    compressed: Vec<u8>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Packer").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}

impl Packer {
    pub(crate) fn new(compression_level: i32, recomputes_hashes: bool) -> io::Result<Self> {
        Ok(Self {
            compressor: compressor(compression_level)?,
            recomputes_hashes,
            numbers: Numbers::default(),
            plain: Vec::new(),
            compressed: Vec::new(),
        })
    }

    /// Begins a pack with the entry at this position of the batch.
    pub(crate) fn begin(&mut self, ordinal: u32) {
        self.numbers = Numbers { first: ordinal, ..Numbers::default() };
        self.plain.clear();
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, address: &Address, event: Option<(&[u8], Option<&[u8]>)>) {
        self.numbers.entries += 1;
        if let Some((_, payload)) = event {
            self.numbers.events += 1;
            self.numbers.payload_bytes += payload.map_or(0, <[u8]>::len) as u64;
        }
        push_compact(&mut self.plain, address, event, self.recomputes_hashes);
    }

    /// Returns the bytes of the lines so far.
    pub(crate) fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Compresses the entries and appends their line.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.numbers.plain_bytes = self.plain.len() as u32;
        self.compressed.clear();
        self.compressed.reserve(compress_bound(self.plain.len()));
        self.compressor.compress_to_buffer(&self.plain, &mut self.compressed)?;
        let start = begin_line(out);
        let numbers = self.numbers;
        for (name, number) in [
            (&b"\"pack\":"[..], u64::from(numbers.first)),
            (b",\"entries\":", numbers.entries.into()),
            (b",\"events\":", numbers.events.into()),
            (b",\"payload_bytes\":", numbers.payload_bytes),
            (b",\"bytes\":", numbers.plain_bytes.into()),
        ] {
            out.extend_from_slice(name);
            push_number(out, number);
        }
        out.extend_from_slice(b",\"zstd\":\"");
        let (text, bytes) = (out.len(), self.compressed.len().div_ceil(3) * 4);
        out.resize(text + bytes, 0);
        BASE64.encode_slice(&self.compressed, &mut out[text..]).map_err(io::Error::other)?;
        out.extend_from_slice(b"\"}");
        end_line(out, start);
        Ok(())
    }
}

/// The level whose tables are smaller here than it has them.
const DEFAULT_LEVEL: i32 = 3;

/// Makes what compresses frames: each with its size and a checksum of what went into it.
pub(crate) fn compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    if level == DEFAULT_LEVEL {
        // Tables of 256 and 64 KiB stay in a processor's own cache, which the level's 512 and 256 KiB do not: a quarter
        // faster, and 1 % larger.
        compressor.set_parameter(CParameter::HashLog(16))?;
        compressor.set_parameter(CParameter::ChainLog(14))?;
    }
    Ok(compressor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::checked;

    fn packed(level: i32) -> (Vec<u8>, Vec<Address>) {
        let skeleton = |payload: &[u8]| {
            format!("{{\"v\":1,\"payload\":\"{}\",\"bytes\":2}}", burnlog_log::PayloadHash::of(payload))
                .into_bytes()
        };
        let (one, two) = (skeleton(b"{}"), skeleton(b"\xff"));
        let addresses =
            vec![Address::of(&one), Address::of(b"elsewhere"), Address::of(&two), Address::of(b"{}")];
        let mut packer = Packer::new(level, true).unwrap();
        packer.begin(7);
        packer.push(&addresses[0], Some((&one, Some(b"{}"))));
        packer.push(&addresses[1], None);
        packer.push(&addresses[2], Some((&two, Some(b"\xff"))));
        packer.push(&addresses[3], Some((b"{}", None)));
        let mut line = Vec::new();
        packer.finish(&mut line).unwrap();
        (line, addresses)
    }

    #[test]
    fn a_pack_gives_back_its_entries_and_numbers() {
        let (line, addresses) = packed(3);
        let covered = checked(line.strip_suffix(b"\n").unwrap()).unwrap();
        let pack = Pack::parse(covered).unwrap();
        let plain_bytes = pack.plain().unwrap().len() as u32;
        let expected = Numbers { first: 7, entries: 4, events: 3, payload_bytes: 3, plain_bytes };
        assert_eq!(pack.numbers, expected);
        let entries = pack.scan().unwrap();
        assert_eq!(entries.iter().map(|entry| entry.address).collect::<Vec<_>>(), addresses);
        assert_eq!(entries.iter().map(|entry| entry.ordinal).collect::<Vec<_>>(), [7, 8, 9, 10]);
        let kinds = entries.iter().map(|entry| (entry.has_event, entry.is_erased, entry.payload_bytes));
        let expected = [(true, false, 2), (false, false, 0), (true, false, 1), (true, true, 0)];
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn numbers_that_are_not_those_of_the_lines_are_refused() {
        let (line, _) = packed(1);
        let covered =
            String::from_utf8(checked(line.strip_suffix(b"\n").unwrap()).unwrap().to_vec()).unwrap();
        assert!(Pack::parse(covered.as_bytes()).unwrap().scan().is_some());
        for (was, is) in [
            ("\"entries\":4", "\"entries\":5"),
            ("\"events\":3", "\"events\":2"),
            ("\"payload_bytes\":3", "\"payload_bytes\":4"),
            ("\"bytes\":", "\"bytes\":1"),
        ] {
            let other = covered.replacen(was, is, 1);
            assert_ne!(other, covered);
            assert_eq!(Pack::parse(other.as_bytes()).and_then(|pack| pack.scan()), None, "{is}");
        }
        assert_eq!(Pack::parse(covered.replacen("\"entries\":4", "\"entries\":0", 1).as_bytes()), None);
        let far = format!("\"pack\":{BATCH_ENTRIES_MAX}");
        assert_eq!(Pack::parse(covered.replacen("\"pack\":7", &far, 1).as_bytes()), None);
    }
}
