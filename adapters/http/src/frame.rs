//! The frame around every binary body: 16 bytes that say what it is and how long it will be, then one zstd frame. The
//! length is believed only as a limit, so that nobody can send little and make us keep much.

use crate::small::{SMALL_BYTES_MAX, Small, compress};
use burnlog_log::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use burnlog_log::{Error, ErrorKind, Result};
use std::io::Write;

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"blnf";
/// The version of the frames and messages of this crate.
pub const FRAME_VERSION: u8 = 1;
/// The bytes before the compressed part.
pub const HEADER_BYTES: usize = 16;
/// The longest message in bytes, decompressed: a full batch with what is said of each entry and event.
pub const MESSAGE_BYTES_MAX: u64 = BATCH_BYTES_MAX + 128 * BATCH_ENTRIES_MAX as u64 + 4096;
/// The largest window that a decompressor keeps, as a power of two: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A batch to append.
    Append = 1,
    /// A page of feeds.
    Feeds = 2,
    /// A page of entries.
    Entries = 3,
    /// Addresses to be looked for in a feed.
    Find = 4,
    /// What was found.
    Found = 5,
    /// Addresses of events to get.
    Get = 6,
    /// Bodies of events.
    Bodies = 7,
    /// Addresses of payloads to erase.
    Erase = 8,
    /// What compacting did.
    Compacted = 9,
    /// Damages that a check found.
    Damages = 10,
    /// What a ledger holds.
    Stat = 11,
    /// A question to the projections.
    Question = 12,
    /// Its answer.
    Reply = 13,
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The number of a [`FrameKind`].
    pub kind: u8,
    /// The length of the message in bytes, decompressed.
    pub message_bytes: u64,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "read frame", message)
}

impl FrameHeader {
    /// Reads a header. `Unsupported` for a newer version, `Invalid` for anything that is no frame.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        if bytes[..4] != MAGIC {
            return Err(invalid("the body is not a burnlog frame"));
        }
        if bytes[4] != FRAME_VERSION {
            let message = format!("the frame has version {}, this program reads {FRAME_VERSION}", bytes[4]);
            return Err(Error::new(ErrorKind::Unsupported, "read frame", message));
        }
        if bytes[6..8] != [0, 0] {
            return Err(invalid("two bytes of the frame's header are not zero"));
        }
        let length = bytes[8..].try_into().expect("the last 8 of 16 bytes");
        Ok(Self { kind: bytes[5], message_bytes: u64::from_le_bytes(length) })
    }
}

/// Makes the frame of a message.
pub fn frame(kind: FrameKind, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + message.len() / 4 + 64);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FRAME_VERSION, kind as u8, 0, 0]);
    out.extend_from_slice(&(message.len() as u64).to_le_bytes());
    compress(out, message)
}

/// Unpacks a frame as its bytes come, and holds no more than the header said and `bytes_max` allows.
pub struct FrameReader {
    expected: FrameKind,
    bytes_max: u64,
    header: Vec<u8>,
    body: Option<Unpacked>,
}

/// What stands behind the header of a frame, as far as it came.
enum Unpacked {
    /// Of a small message: all of it, to be unpacked at the end.
    AtOnce(Small),
    /// Unpacked as it comes.
    AsItComes(zstd::stream::write::Decoder<'static, Bounded>),
}

impl Unpacked {
    fn new(message_bytes: usize) -> Result<Self> {
        if message_bytes <= SMALL_BYTES_MAX {
            return Ok(Self::AtOnce(Small::new(message_bytes)));
        }
        Self::as_it_comes(message_bytes)
    }

    fn as_it_comes(message_bytes: usize) -> Result<Self> {
        // Memory is taken as it is filled: an announcement alone costs nothing.
        let message = Vec::with_capacity(message_bytes.min(4 << 20));
        let bounded = Bounded { message, bytes: message_bytes };
        let mut decoder = zstd::stream::write::Decoder::new(bounded).map_err(undecodable)?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(undecodable)?;
        Ok(Self::AsItComes(decoder))
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::AtOnce(small) => {
                let Some(early) = small.push(bytes) else { return Ok(()) };
                // More than any compressor makes of so little: it is not kept.
                *self = Self::as_it_comes(small.message_bytes())?;
                self.push(&early)
            }
            Self::AsItComes(decoder) => decoder.write_all(bytes).map_err(undecodable),
        }
    }

    fn finish(self) -> Result<(Vec<u8>, usize)> {
        match self {
            Self::AtOnce(small) => small.unpack().map_err(undecodable),
            Self::AsItComes(mut decoder) => {
                decoder.flush().map_err(undecodable)?;
                let Bounded { message, bytes } = decoder.into_inner();
                Ok((message, bytes))
            }
        }
    }
}

/// A message that grows up to the length that was announced.
struct Bounded {
    message: Vec<u8>,
    bytes: usize,
}

impl Write for Bounded {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        if self.message.len() + buffer.len() > self.bytes {
            return Err(std::io::Error::other("more bytes than the frame's header says"));
        }
        if self.message.len() + buffer.len() > self.message.capacity() {
            // Doubled, and in the end no larger than the message.
            let capacity =
                (2 * self.message.capacity()).max(self.message.len() + buffer.len()).min(self.bytes);
            self.message.reserve_exact(capacity - self.message.len());
        }
        self.message.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FrameReader {
    /// Expects a frame of one kind, of at most `bytes_max` bytes decompressed.
    pub fn new(expected: FrameKind, bytes_max: u64) -> Self {
        Self { expected, bytes_max, header: Vec::with_capacity(HEADER_BYTES), body: None }
    }

    /// Takes the next bytes and returns the header once it is complete.
    ///
    /// `Invalid` for what is no frame of the kind expected, is too long, or does not decompress.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<FrameHeader>> {
        if self.body.is_none() {
            let lacking = HEADER_BYTES - self.header.len();
            let (front, rest) = bytes.split_at(lacking.min(bytes.len()));
            self.header.extend_from_slice(front);
            bytes = rest;
            let Some(header) = self.header()? else { return Ok(None) };
            self.body = Some(Unpacked::new(header.message_bytes as usize)?);
        }
        let body = self.body.as_mut().expect("made above");
        body.push(bytes)?;
        self.header()
    }

    /// Returns the header, once its bytes are there. `Invalid` when it is not one to go on with.
    pub fn header(&self) -> Result<Option<FrameHeader>> {
        self.announce(&self.header)
    }

    /// Tells what the first bytes of a body announce, without taking them; `None` while there are too few.
    pub fn announce(&self, front: &[u8]) -> Result<Option<FrameHeader>> {
        let Some(bytes) = front.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = FrameHeader::parse(bytes)?;
        if header.kind != self.expected as u8 {
            let message = format!("a frame of kind {}, {} was expected", header.kind, self.expected as u8);
            return Err(invalid(message));
        }
        if header.message_bytes > self.bytes_max {
            return Err(too_long(header.message_bytes, self.bytes_max));
        }
        Ok(Some(header))
    }

    /// Returns the message. `Invalid` when it is not all there.
    pub fn finish(self) -> Result<bytes::Bytes> {
        let Some(body) = self.body else {
            return Err(invalid("the body ends within the frame's header"));
        };
        let (message, bytes) = body.finish()?;
        if message.len() != bytes {
            let message = format!("the frame says {bytes} bytes and has {}", message.len());
            return Err(invalid(message));
        }
        Ok(message.into())
    }
}

/// The error for a body over the limit; [`is_too_long`] knows it again.
pub fn too_long(bytes: u64, bytes_max: u64) -> Error {
    Error::new(
        ErrorKind::Invalid,
        TOO_LONG,
        format!("a body of {bytes} bytes, at most {bytes_max} are taken"),
    )
}

/// Whether an error came from [`too_long`].
pub fn is_too_long(error: &Error) -> bool {
    error.operation() == TOO_LONG
}

const TOO_LONG: &str = "take body";

fn undecodable(error: std::io::Error) -> Error {
    invalid("the frame does not decompress").caused_by(error)
}

/// Unpacks a whole frame.
pub fn unframe(expected: FrameKind, bytes_max: u64, bytes: &[u8]) -> Result<bytes::Bytes> {
    let mut reader = FrameReader::new(expected, bytes_max);
    reader.push(bytes)?;
    reader.finish()
}
