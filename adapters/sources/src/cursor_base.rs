//! The base of a cursor file: most of its cursors, sorted by path, in blocks that are compressed each by itself. Whoever
//! asks for one file unpacks one block. Knows no file: it is a run of bytes that is made at once and never changed.

use crate::cursor::{FeedPoint, StoredHead};
use crate::cursor_frame::Entry;
use crate::cursor_image::CursorText;
use burnlog_log::Root;
use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zstd::bulk::{Compressor, Decompressor};

/// How much of a base is compressed together: of twice as much one more turn unpacks twice as much, and 3 % are gained.
const BLOCK_BYTES: usize = 16 << 10;
/// A stream is told by this much of its hash. Two that meet cost a look at all cursors, nothing else.
const PRINT_BYTES: usize = 4;
/// The numbers at the front: those of the prints, and the bytes of the contents.
const FRONT_BYTES: usize = 8;
/// Keeps a wrong length from claiming memory.
const BYTES_MAX: usize = 1 << 30;
const LEVEL: i32 = 3;

/// What is known of the blocks without unpacking them.
#[derive(Debug, Default, bincode::Encode, bincode::Decode)]
struct Contents {
    /// The largest point of the feed in any of the cursors.
    newest: Option<(u64, [u8; 32])>,
    blocks: Vec<StoredBlock>,
}

#[derive(Debug, bincode::Encode, bincode::Decode)]
struct StoredBlock {
    /// The path of the first cursor.
    first: Vec<u8>,
    bytes: u64,
    packed_bytes: u64,
}

fn codec() -> bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<BYTES_MAX>,
> {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

/// A base whose bytes lie in a [`CursorText`].
#[derive(Debug, Default)]
pub(crate) struct CursorBase {
    blocks: Vec<Block>,
    newest: Option<FeedPoint>,
    /// Where the prints of the streams are, and how many.
    prints: (usize, usize),
}

#[derive(Debug)]
struct Block {
    /// The path of the first cursor.
    first: Vec<u8>,
    bytes: usize,
    /// Where it is in the text.
    start: usize,
    packed_bytes: usize,
    /// Unpacked when it is first asked for.
    entries: OnceCell<Entries>,
}

/// An unpacked block: entries, each after its length.
#[derive(Debug, Default)]
struct Entries {
    text: Vec<u8>,
    starts: Vec<u32>,
}

impl CursorBase {
    /// Takes up the base that is `bytes` long and starts at `start` of `text`; its checksum fits. `None` for anything else.
    pub(crate) fn read(text: &CursorText, start: usize, bytes: usize) -> Option<Self> {
        if bytes == 0 {
            return Some(Self::default());
        }
        let whole = text.from(start).get(..bytes)?;
        let (prints, rest) = whole.split_first_chunk()?;
        let (contents_bytes, rest) = rest.split_first_chunk()?;
        let prints = u32::from_le_bytes(*prints) as usize;
        let after_prints = rest.get(prints.checked_mul(PRINT_BYTES)?..)?;
        let contents = after_prints.get(..u32::from_le_bytes(*contents_bytes) as usize)?;
        let (Contents { newest, blocks }, _) = bincode::decode_from_slice(contents, codec()).ok()?;
        let mut base = Self {
            blocks: Vec::with_capacity(blocks.len()),
            newest: newest.map(|(size, root)| FeedPoint { size, root: Root(root) }),
            prints: (start + FRONT_BYTES, prints),
        };
        let end = start + bytes;
        let mut at = end - (after_prints.len() - contents.len());
        for block in blocks {
            let packed_bytes = usize::try_from(block.packed_bytes).ok().filter(|bytes| *bytes <= end - at)?;
            let bytes = usize::try_from(block.bytes).ok().filter(|bytes| *bytes <= BYTES_MAX)?;
            let (first, start) = (block.first, at);
            base.blocks.push(Block { first, bytes, start, packed_bytes, entries: OnceCell::new() });
            at += packed_bytes;
        }
        (at == end).then_some(base)
    }

    /// Returns whether there is no cursor.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The largest point of the feed in any of the cursors.
    pub(crate) fn newest(&self) -> Option<FeedPoint> {
        self.newest
    }

    /// Returns the cursor of a file.
    pub(crate) fn find<'a>(&'a self, text: &'a CursorText, path: &Path) -> Option<Entry<'a>> {
        let key = path.as_os_str().as_bytes();
        let block = self.blocks.partition_point(|block| *block.first <= *key).checked_sub(1)?;
        let entries = self.blocks[block].entries(text);
        entries.get(entries.first_not_before(key)).filter(|entry| entry.key() == key)
    }

    /// Returns the cursors whose paths begin with these bytes, in order.
    pub(crate) fn beginning_with<'a>(
        &'a self,
        text: &'a CursorText,
        begin: &'a [u8],
    ) -> impl Iterator<Item = Entry<'a>> {
        let first = self.blocks.partition_point(|block| *block.first < *begin).saturating_sub(1);
        let may_hold = move |block: &&Block| *block.first < *begin || block.first.starts_with(begin);
        self.blocks[first..].iter().take_while(may_hold).flat_map(move |block| {
            let entries = block.entries(text);
            let from = entries.first_not_before(begin);
            (from..entries.starts.len())
                .filter_map(|at| entries.get(at))
                .take_while(move |entry| entry.key().starts_with(begin))
        })
    }

    /// Returns how many cursors may be of this stream: never fewer than are, those of which nothing was seen left out.
    pub(crate) fn may_be_of(&self, text: &CursorText, source: &str, stream: &str) -> usize {
        let (start, count) = self.prints;
        let prints = text.from(start).get(..count * PRINT_BYTES).unwrap_or_default().as_chunks().0;
        let print = print(source, stream);
        let from = prints.partition_point(|other| u32::from_le_bytes(*other) < print);
        prints[from..].iter().take_while(|other| u32::from_le_bytes(**other) == print).count()
    }
}

impl Block {
    fn entries(&self, text: &CursorText) -> &Entries {
        self.entries.get_or_init(|| self.unpack(text))
    }

    /// Empty where the checksum fits and the block does not read: its files are read again.
    fn unpack(&self, text: &CursorText) -> Entries {
        let packed = &text.from(self.start)[..self.packed_bytes];
        unpack(packed, self.bytes).map(Entries::of).unwrap_or_default()
    }
}

impl Entries {
    fn of(text: Vec<u8>) -> Self {
        let mut starts = Vec::new();
        let mut at = 0;
        while let Some((length, rest)) = text.get(at..).and_then(|rest| rest.split_first_chunk()) {
            let length = u32::from_le_bytes(*length) as usize;
            if rest.get(..length).is_none_or(|entry| Entry::read(entry).is_none()) {
                break;
            }
            starts.push(at as u32);
            at += 4 + length;
        }
        Self { text, starts }
    }

    fn at(&self, start: u32) -> Option<Entry<'_>> {
        let (length, rest) = self.text.get(start as usize..)?.split_first_chunk()?;
        Entry::read(rest.get(..u32::from_le_bytes(*length) as usize)?)
    }

    fn get(&self, at: usize) -> Option<Entry<'_>> {
        self.at(*self.starts.get(at)?)
    }

    fn first_not_before(&self, key: &[u8]) -> usize {
        self.starts.partition_point(|start| self.at(*start).is_some_and(|entry| entry.key() < key))
    }
}

fn unpack(packed: &[u8], bytes: usize) -> io::Result<Vec<u8>> {
    thread_local! {
        /// Made once: to make one takes as long as to unpack a block.
        static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Decompressor::new()?),
        };
        context.decompress(packed, bytes)
    })
}

fn print(source: &str, stream: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(source.as_bytes());
    hasher.update(&[0]);
    hasher.update(stream.as_bytes());
    hasher.finalize()
}

/// Makes a base of what counts in an earlier one, and of `newer` cursors, each of which stands for that of the same path.
/// Leaves out what is not to be kept.
pub(crate) fn merge(
    (base, text): (&CursorBase, &CursorText),
    mut newer: Vec<Entry<'_>>,
    keeps: impl Fn(&StoredHead<'_>) -> bool,
) -> io::Result<Vec<u8>> {
    newer.sort_unstable_by_key(Entry::key);
    let mut newer = newer.into_iter().peekable();
    let mut out = BaseWriter::default();
    let mut push = |entry: Entry<'_>| match entry.head().filter(&keeps) {
        Some(head) => out.push(&entry, &head),
        None => Ok(()),
    };
    for block in &base.blocks {
        // Not kept: there may be many of them.
        let entries = block.unpack(text);
        for entry in (0..entries.starts.len()).filter_map(|at| entries.get(at)) {
            while let Some(newer) = newer.next_if(|newer| newer.key() < entry.key()) {
                push(newer)?;
            }
            if newer.peek().is_none_or(|newer| newer.key() != entry.key()) {
                push(entry)?;
            }
        }
    }
    newer.try_for_each(push)?;
    out.finish()
}

/// A base in the making.
#[derive(Default)]
struct BaseWriter {
    /// The block that is being filled: its first path, its entries.
    first: Vec<u8>,
    text: Vec<u8>,
    /// What is known of the full ones, and their bytes.
    contents: Contents,
    packed: Vec<u8>,
    prints: Vec<u32>,
    /// Made when there is something to compress.
    compressor: Option<Compressor<'static>>,
}

impl BaseWriter {
    fn push(&mut self, entry: &Entry<'_>, head: &StoredHead<'_>) -> io::Result<()> {
        if self.text.len() + entry.whole.len() > BLOCK_BYTES {
            self.end_block()?;
        }
        if self.text.is_empty() {
            self.first = entry.key().to_vec();
        }
        self.text.extend_from_slice(&(entry.whole.len() as u32).to_le_bytes());
        self.text.extend_from_slice(entry.whole);
        let point = head.point();
        if self.contents.newest.is_none_or(|(size, _)| size < point.size) {
            self.contents.newest = Some((point.size, point.root.0));
        }
        if !head.is_blank() {
            self.prints.push(print(head.source, head.stream));
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let packed = match &mut self.compressor {
            Some(compressor) => compressor.compress(&self.text)?,
            None => self.compressor.insert(Compressor::new(LEVEL)?).compress(&self.text)?,
        };
        self.packed.extend_from_slice(&packed);
        self.contents.blocks.push(StoredBlock {
            first: std::mem::take(&mut self.first),
            bytes: self.text.len() as u64,
            packed_bytes: packed.len() as u64,
        });
        self.text.clear();
        Ok(())
    }

    /// Returns the number of prints and that of the contents' bytes (u32 each), prints, contents, blocks; nothing where there is
    /// no cursor.
    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.end_block()?;
        if self.contents.blocks.is_empty() {
            return Ok(Vec::new());
        }
        let contents =
            bincode::encode_to_vec(&self.contents, codec()).expect("writing to memory cannot fail");
        self.prints.sort_unstable();
        let mut out = Vec::with_capacity(
            FRONT_BYTES + self.prints.len() * PRINT_BYTES + contents.len() + self.packed.len(),
        );
        out.extend_from_slice(&(self.prints.len() as u32).to_le_bytes());
        out.extend_from_slice(&(contents.len() as u32).to_le_bytes());
        out.extend(self.prints.iter().flat_map(|print| print.to_le_bytes()));
        out.extend_from_slice(&contents);
        out.extend_from_slice(&self.packed);
        Ok(out)
    }
}
