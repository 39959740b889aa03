//! Decompressing a frame as far as it is wanted, in memory that is used again: pages that the system hands out anew cost as much
//! as what is written to them. Knows nothing of lines.

use crate::files::{File, fill_range};
use std::io;
use std::sync::{Mutex, PoisonError};
use zstd::stream::raw::{Decoder, Operation};

/// How much is decompressed between two looks at whether it is enough.
const PIECE_BYTES: usize = 128 << 10;
/// How many are kept for the next frame, and the most memory that one of them may keep.
const IDLE_MAX: usize = 4;
const IDLE_BYTES_MAX: usize = 4 << 20;

static IDLE: Mutex<Vec<Bench>> = Mutex::new(Vec::new());

/// What one frame at a time is decompressed with.
pub(crate) struct Bench {
    decoder: Decoder<'static>,
    compressed: Vec<u8>,
    plain: Vec<u8>,
}

impl Bench {
    /// Lets `work` use one, which is kept for whoever comes next.
    pub(crate) fn with<T>(work: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bench = if let Some(bench) = idle {
            bench
        } else {
            let decoder = Decoder::new().map_err(|error| error.to_string())?;
            Self { decoder, compressed: Vec::new(), plain: Vec::new() }
        };
        let done = work(&mut bench);
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && bench.compressed.len() + bench.plain.len() <= IDLE_BYTES_MAX {
            idle.push(bench);
        }
        done
    }

    /// Reads what [`Bench::decompress_while`] takes; fewer bytes where the file ends before. Returns them.
    pub(crate) fn read(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<&[u8]> {
        grow(&mut self.compressed, length);
        let there = fill_range(file, offset, &mut self.compressed[..length])?;
        Ok(&self.compressed[..there])
    }

    /// Decompresses the first `compressed_bytes` of what was read from the beginning, for as long as `goes_on` says so of what is
    /// there, `plain_bytes` at most.
    pub(crate) fn decompress_while(
        &mut self,
        compressed_bytes: usize,
        plain_bytes: usize,
        mut goes_on: impl FnMut(&[u8]) -> bool,
    ) -> Result<&[u8], String> {
        let Self { decoder, compressed, plain } = self;
        decoder.reinit().map_err(|error| error.to_string())?;
        grow(plain, plain_bytes);
        let compressed = &compressed[..compressed_bytes];
        let (mut read, mut written) = (0, 0);
        while written < plain_bytes {
            let piece = plain_bytes.min(written + PIECE_BYTES);
            let status = decoder
                .run_on_buffers(&compressed[read..], &mut plain[written..piece])
                .map_err(|error| error.to_string())?;
            if status.bytes_read == 0 && status.bytes_written == 0 {
                return Err(format!("the frame has {written} bytes instead of {plain_bytes}"));
            }
            read += status.bytes_read;
            written += status.bytes_written;
            if !goes_on(&plain[..written]) {
                break;
            }
        }
        Ok(&plain[..written])
    }
}

/// Makes room, zeroed where it is new.
fn grow(bytes: &mut Vec<u8>, length: usize) {
    if bytes.len() < length {
        bytes.resize(length, 0);
    }
}
