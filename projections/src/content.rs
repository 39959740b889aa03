//! Content: where each block of a conversation stands in the log. Rows hold places and never text: the text is read
//! from the payload of the event, so that an erased payload leaves nothing behind here.

use crate::Derived;
use crate::json::Span;
use crate::table::{Merge, row};
use crate::text::{Name, key_text};
use burnlog_log::scan::Scanner;
use burnlog_log::{Address, push_hex, push_number};
use std::borrow::Cow;

/// How many bytes of an address stand beside a record number, which alone names it but for rewritten records.
pub(crate) const ADDRESS_BYTES: usize = 6;

row! {
    /// The blocks in 200 consecutive records of a stream; the same records as in the chunk of `records`.
    ///
    /// `blocks` is compact JSON: `[[seq,"address",[kind,start,bytes],[kind,start,bytes,"tool use id"],…],…]`, ordered by
    /// seq and address. `address` is the first 12 hex digits of the event's; with the seq it names one entry of the
    /// chunk in `records`. `start` and `bytes` say where in the payload the JSON value stands that holds the content:
    /// of `text`, `thinking`, `system` and `summary` the string with its quotes, of `tool_use` the input, of
    /// `tool_result` the content, of anything else (`image` …) the whole block. Where objects are rewritten in place the
    /// version's rank follows the address, in hex, and of the versions of a record the one of the greatest rank alone has
    /// an entry, even if it has no block.
    pub struct Content in "content" dumped true
    key {
        /// The source.
        source: Name,
        /// The stream.
        stream: Name,
        /// The number of the chunk: record number / 128.
        chunk: i64,
    }
    /// The blocks, as said above.
    blocks: String,
}

/// A block as a row tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    pub(crate) seq: u64,
    pub(crate) address: &'a str,
    /// The number of the block in its record.
    pub(crate) ordinal: u32,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) tool_use: Option<Cow<'a, str>>,
}

impl Merge for Content {
    fn merge(&mut self, other: Self) {
        if self.blocks == other.blocks {
            return;
        }
        let mut entries = entries(&self.blocks);
        entries.extend(self::entries(&other.blocks));
        let joined = settled(entries);
        self.blocks = joined;
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}

impl Content {
    /// Returns the blocks, ordered by record.
    pub(crate) fn list(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        for Entry { seq, address, text, .. } in entries(&self.blocks) {
            // What is not as this program writes it is damage, which leaves a record without blocks.
            let _ = read_blocks(text, seq, address, &mut blocks);
        }
        blocks
    }
}

/// The blocks of one record in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry<'a> {
    seq: u64,
    /// The rank of the version; empty where records are not rewritten.
    rank: &'a str,
    address: &'a str,
    /// The entry as it stands in the row.
    text: &'a str,
}

fn entries(blocks: &str) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    let mut scanner = Scanner::new(blocks);
    let mut read = || -> Option<()> {
        let mut is_first = true;
        (scanner.peek()? == b'[').then(|| scanner.advance())?;
        while scanner.next_element(&mut is_first)? {
            scanner.peek()?;
            let start = scanner.position();
            scanner.skip()?;
            let text = &blocks[start..scanner.position()];
            let (seq, rest) = text.strip_prefix('[')?.split_once(",\"")?;
            let (address, rest) = rest.split_at_checked(2 * ADDRESS_BYTES)?;
            let rank = rest.strip_prefix("\",\"").and_then(|rest| rest.split_once('"'));
            let rank = rank.map_or("", |(rank, _)| rank);
            found.push(Entry { seq: seq.parse().ok()?, rank, address, text });
        }
        Some(())
    };
    // Damage ends the list: what was read so far is still good.
    let _ = read();
    found
}

/// Makes the text of a row: each entry once, and of several versions of a record that have ranks the greatest.
fn settled(mut entries: Vec<Entry<'_>>) -> String {
    entries.sort_unstable();
    entries.dedup();
    let counts = |(at, entry): &(usize, &Entry<'_>)| {
        entry.rank.is_empty() || entries.get(at + 1).is_none_or(|next| next.seq != entry.seq)
    };
    let mut kept: Vec<Entry<'_>> =
        entries.iter().enumerate().filter(counts).map(|(_, entry)| *entry).collect();
    kept.sort_unstable_by_key(|entry| (entry.seq, entry.address, entry.text));
    join(kept.iter().map(|entry| entry.text))
}

fn read_blocks<'a>(text: &'a str, seq: u64, address: &'a str, blocks: &mut Vec<Block<'a>>) -> Option<()> {
    let mut scanner = Scanner::new(text);
    let open = |scanner: &mut Scanner<'a>| (scanner.peek()? == b'[').then(|| scanner.advance());
    open(&mut scanner)?;
    let (mut is_first, mut ordinal) = (true, 0u32);
    // The seq and the address, which are known.
    for _ in 0..2 {
        scanner.next_element(&mut is_first)?;
        scanner.skip()?;
    }
    while scanner.next_element(&mut is_first)? {
        if scanner.peek()? == b'"' {
            // The rank, which has done its work.
            scanner.skip()?;
            continue;
        }
        open(&mut scanner)?;
        let mut is_first = true;
        scanner.next_element(&mut is_first)?;
        let kind = scanner.string()?.text();
        let mut numbers = [0u64; 2];
        for number in &mut numbers {
            scanner.next_element(&mut is_first)?;
            *number = scanner.number()?.parse().ok()?;
        }
        let mut tool_use = None;
        if scanner.next_element(&mut is_first)? {
            tool_use = Some(scanner.string()?.text());
            scanner.next_element(&mut is_first)?;
        }
        blocks.push(Block { seq, address, ordinal, kind, start: numbers[0], bytes: numbers[1], tool_use });
        ordinal += 1;
    }
    Some(())
}

fn join<'a>(entries: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("[");
    for (at, entry) in entries.enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(entry);
    }
    text.push(']');
    text
}

/// The blocks of the record that is being folded.
#[derive(Debug, Default)]
pub(crate) struct RecordBlocks {
    text: Vec<u8>,
    /// The rank of the version of the record; empty where records are not rewritten.
    rank: Vec<u8>,
    /// Where the text that was read differs from the payload: places in both from which on they run alike.
    offsets: Vec<(u32, u32)>,
    /// Whether nothing is kept; see `Projector::without_content`.
    pub(crate) is_off: bool,
}

impl RecordBlocks {
    /// Begins a record. What is read is `payload` without a byte order mark, and unless `is_utf8` with U+FFFD in it.
    pub(crate) fn begin(&mut self, payload: &[u8], is_utf8: bool) {
        self.text.clear();
        self.rank.clear();
        self.offsets.clear();
        let mark = if payload.starts_with(b"\xef\xbb\xbf") { 3u32 } else { 0 };
        if mark > 0 {
            self.offsets.push((0, mark));
        }
        if is_utf8 {
            return;
        }
        // Each stretch of bytes that is not UTF-8 became one U+FFFD of three bytes.
        let (mut in_text, mut in_payload) = (0, mark);
        for chunk in payload[mark as usize..].utf8_chunks() {
            let (valid, invalid) = (chunk.valid().len() as u32, chunk.invalid().len() as u32);
            in_text += valid + if invalid == 0 { 0 } else { 3 };
            in_payload += valid + invalid;
            self.offsets.push((in_text, in_payload));
        }
    }

    fn payload_offset(&self, at: u32) -> u32 {
        let behind = self.offsets.partition_point(|(text, _)| *text <= at);
        behind.checked_sub(1).map_or(at, |found| {
            let (text, payload) = self.offsets[found];
            payload + (at - text)
        })
    }

    /// Sets the rank of the version of the record: of several versions the one with the bytewise greatest counts.
    pub(crate) fn set_rank(&mut self, rank: &[u8]) {
        self.rank.clear();
        if !self.is_off {
            self.rank.extend_from_slice(rank);
        }
    }

    /// Adds a block: its kind, where it stands in the text, and the tool use that it belongs to. None where it is absent.
    pub(crate) fn push(&mut self, kind: &str, span: Span, tool_use: Option<&str>) {
        if self.is_off || span.is_absent() {
            return;
        }
        let start = self.payload_offset(span.start);
        let bytes = self.payload_offset(span.start + span.bytes) - start;
        let out = &mut self.text;
        out.extend_from_slice(b",[");
        push_text(out, kind);
        for number in [start, bytes] {
            out.push(b',');
            push_number(out, u64::from(number));
        }
        if let Some(tool_use) = tool_use {
            out.push(b',');
            push_text(out, tool_use);
        }
        out.push(b']');
    }
}

/// Pushes a key as a JSON string.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
    if text.len() <= crate::KEY_BYTES_MAX && text.bytes().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, &key_text(text)).expect("writing a string to memory cannot fail");
    }
}

/// The blocks of a chunk in memory while a fold adds to it.
#[derive(Debug, Default)]
pub(crate) struct OpenContent {
    text: Vec<u8>,
    /// Seq, address, and where the entry ends in `text`.
    entries: Vec<(u64, [u8; ADDRESS_BYTES], u32)>,
    has_ranks: bool,
}

impl OpenContent {
    /// Adds the blocks of one record, if it has any or may have had some; returns how many bytes of memory that took.
    pub(crate) fn add(&mut self, seq: u64, address: &Address, blocks: &mut RecordBlocks) -> usize {
        if blocks.text.is_empty() && blocks.rank.is_empty() {
            return 0;
        }
        let before = self.text.len();
        let short = *address.0.first_chunk().expect("an address has 32 bytes");
        self.text.push(b'[');
        push_number(&mut self.text, seq);
        self.text.extend_from_slice(b",\"");
        push_hex(&mut self.text, &short);
        self.text.push(b'"');
        if !blocks.rank.is_empty() {
            self.text.extend_from_slice(b",\"");
            push_hex(&mut self.text, &blocks.rank);
            self.text.push(b'"');
            self.has_ranks = true;
        }
        self.text.extend_from_slice(&blocks.text);
        self.text.push(b']');
        blocks.text.clear();
        blocks.rank.clear();
        self.entries.push((seq, short, self.text.len() as u32));
        self.text.len() - before + size_of::<(u64, [u8; ADDRESS_BYTES], u32)>()
    }

    /// Returns the blocks of the record that was added last.
    pub(crate) fn last_blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let Some((seq, _, end)) = self.entries.last() else { return blocks };
        let start = self.entries.len().checked_sub(2).map_or(0, |before| self.entries[before].2 as usize);
        // Written above, so it is read to its end.
        if let Ok(text) = std::str::from_utf8(&self.text[start..*end as usize]) {
            let address = text.split('"').nth(1).unwrap_or_default();
            let _ = read_blocks(text, *seq, address, &mut blocks);
        }
        blocks
    }

    /// Makes the row, if there is a block.
    pub(crate) fn into_row(self, source: &Name, stream: &Name, chunk: u64) -> Option<Content> {
        if self.entries.is_empty() {
            return None;
        }
        let text = String::from_utf8(self.text).expect("it was written as JSON");
        let mut start = 0;
        let mut entries: Vec<(u64, [u8; ADDRESS_BYTES], &str)> = Vec::with_capacity(self.entries.len());
        for (seq, address, end) in self.entries {
            entries.push((seq, address, &text[start..end as usize]));
            start = end as usize;
        }
        entries.sort_unstable();
        let mut blocks = join(entries.iter().map(|entry| entry.2));
        if self.has_ranks && entries.len() > 1 {
            blocks = settled(self::entries(&blocks));
        }
        Some(Content { source: source.clone(), stream: stream.clone(), chunk: chunk as i64, blocks })
    }
}
