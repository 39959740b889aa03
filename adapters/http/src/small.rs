//! Messages that are compressed at once, and small ones that are unpacked at once, by contexts that are kept. Making a context takes
//! longer than a small message does.

use std::io::{Cursor, Result};
use std::sync::{Mutex, PoisonError};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound};

/// Measured on session logs: a fifth of the size at a speed that one connection of 10 Gbit/s needs.
const LEVEL: i32 = 3;

/// The most bytes of a small message.
pub(crate) const SMALL_BYTES_MAX: usize = 64 << 10;
/// How many contexts of a kind are kept: some hundred kilobytes each.
const KEPT_MAX: usize = 4;

static COMPRESSORS: Kept<Compressor<'static>> = Kept(Mutex::new(Vec::new()));
static DECOMPRESSORS: Kept<Decompressor<'static>> = Kept(Mutex::new(Vec::new()));

/// Contexts that nobody uses at this moment.
struct Kept<C>(Mutex<Vec<C>>);

impl<C> Kept<C> {
    fn take(&self) -> Option<C> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, context: C) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(context);
        }
    }
}

/// Makes a context. Its tables of 256 and 64 KiB stay in a processor's own cache, which those of the level do not: a quarter faster,
/// and 1 % longer.
fn compressor() -> Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::HashLog(16))?;
    compressor.set_parameter(CParameter::ChainLog(14))?;
    Ok(compressor)
}

/// Appends a zstd frame with a message to `out`.
pub(crate) fn compress(mut out: Vec<u8>, message: &[u8]) -> Vec<u8> {
    let mut compressor =
        COMPRESSORS.take().unwrap_or_else(|| compressor().expect("level and parameters are valid ones"));
    let front = out.len();
    out.reserve(compress_bound(message.len()));
    let mut out = Cursor::new(out);
    out.set_position(front as u64);
    compressor.compress_to_buffer(message, &mut out).expect("there is room for what cannot be compressed");
    COMPRESSORS.keep(compressor);
    out.into_inner()
}

/// The compressed bytes of a small message as they come.
pub(crate) struct Small {
    compressed: Vec<u8>,
    message_bytes: usize,
}

impl Small {
    pub(crate) fn new(message_bytes: usize) -> Self {
        Self { compressed: Vec::new(), message_bytes }
    }

    pub(crate) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// Takes more bytes; gives all back when they are more than such a message can be compressed to.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.compressed.extend_from_slice(bytes);
        let is_too_much = self.compressed.len() > compress_bound(self.message_bytes);
        is_too_much.then(|| std::mem::take(&mut self.compressed))
    }

    /// Returns the message, as far as it goes, and how long it should be. An error for more than that, and for what does not decompress.
    pub(crate) fn unpack(self) -> Result<(Vec<u8>, usize)> {
        let mut decompressor = DECOMPRESSORS.take().unwrap_or_default();
        let mut message = Vec::with_capacity(self.message_bytes);
        decompressor.decompress_to_buffer(&self.compressed, &mut message)?;
        DECOMPRESSORS.keep(decompressor);
        Ok((message, self.message_bytes))
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::{FrameKind, HEADER_BYTES, frame, unframe};
    use crate::small::SMALL_BYTES_MAX;
    use burnlog_log::ErrorKind;

    fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
        match unframe(FrameKind::Find, 1 << 20, bytes) {
            Ok(message) => Some(message.to_vec()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Invalid);
                None
            }
        }
    }

    #[test]
    fn messages_of_any_size_come_back_through_contexts_that_were_used_before() {
        for bytes in [0, 1, 999, SMALL_BYTES_MAX - 1, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 7] {
            let message: Vec<u8> = (0..bytes).map(|at| (at * at / 7) as u8).collect();
            assert_eq!(unpacked(&frame(FrameKind::Find, &message)).as_ref(), Some(&message), "{bytes}");
        }
    }

    #[test]
    fn a_small_message_is_neither_longer_nor_shorter_than_announced_and_the_next_one_is_none_the_worse() {
        let good = frame(FrameKind::Find, &[7; 1000]);
        for announced in [0u64, 1, 999, 1001] {
            let mut bad = good.clone();
            bad[8..HEADER_BYTES].copy_from_slice(&announced.to_le_bytes());
            assert_eq!(unpacked(&bad), None, "{announced}");
        }
        assert_eq!(unpacked(&good[..good.len() - 1]), None);
        assert_eq!(unpacked(&[&good[..], b"x"].concat()), None);
        assert_eq!(unpacked(&good), Some(vec![7; 1000]));
    }

    /// A hundred zeros in blocks of one byte: more bytes than any compressor makes of them.
    #[test]
    fn what_is_longer_than_such_a_message_can_be_is_unpacked_as_it_comes() {
        let mut body = frame(FrameKind::Find, &[0; 100])[..HEADER_BYTES].to_vec();
        let mut encoder = zstd::stream::write::Encoder::new(&mut body, 1).unwrap();
        for _ in 0..100 {
            std::io::Write::write_all(&mut encoder, &[0]).unwrap();
            std::io::Write::flush(&mut encoder).unwrap();
        }
        encoder.finish().unwrap();
        assert!(body.len() > HEADER_BYTES + zstd::zstd_safe::compress_bound(100));
        assert_eq!(unpacked(&body), Some(vec![0; 100]));
        // The same, and one more than was announced.
        body[8] = 99;
        assert_eq!(unpacked(&body), None);
    }
}
