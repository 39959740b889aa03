//! Decompressing a frame as far as it is wanted, in memory that is used again: pages that the system hands out anew cost as much
//! as what is written to them. Knows nothing of lines.

use crate::files::{File, fill_range};
use memmap2::{MmapMut, MmapOptions};
use std::io;
use std::sync::{Mutex, PoisonError};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

/// How much of what is compressed is taken between two looks at whether it is enough.
const PIECE_BYTES: usize = 32 << 10;
/// How many are kept for the next frame, and the most memory that one of them may keep.
const IDLE_MAX: usize = 4;
const IDLE_BYTES_MAX: usize = 6 << 20;
/// Memory is taken in multiples of this: what the system hands out as one large page.
const PAGES_BYTES: usize = 2 << 20;

static IDLE: Mutex<Vec<Bench>> = Mutex::new(Vec::new());

/// What one frame at a time is decompressed with.
pub(crate) struct Bench {
    decoder: Decoder<'static>,
    /// A few hundred kilobytes: large pages for it would cost more to clear than they save.
    compressed: Vec<u8>,
    plain: Pages,
}

impl Bench {
    fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        // Straight into what it is asked for: else it keeps a window of its own, as large as a frame, and copies.
        decoder.set_parameter(DParameter::StableOutBuffer(true))?;
        Ok(Self { decoder, compressed: Vec::new(), plain: Pages::default() })
    }

    /// Lets `work` use one, which is kept for whoever comes next.
    pub(crate) fn with<T>(work: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bench = match idle {
            Some(bench) => bench,
            None => Self::new().map_err(|error| error.to_string())?,
        };
        let done = work(&mut bench);
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && bench.compressed.len() + bench.plain.bytes() <= IDLE_BYTES_MAX {
            idle.push(bench);
        }
        done
    }

    /// Reads what [`Bench::decompress_while`] takes; fewer bytes where the file ends before. Returns them.
    pub(crate) fn read(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<&[u8]> {
        if self.compressed.len() < length {
            self.compressed.resize(length, 0);
        }
        let compressed = &mut self.compressed[..length];
        let there = fill_range(file, offset, compressed)?;
        Ok(&compressed[..there])
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
        let plain = plain.first(plain_bytes).map_err(|error| error.to_string())?;
        let (mut read, mut written) = (0, 0);
        while written < plain_bytes {
            let piece = compressed_bytes.min(read + PIECE_BYTES);
            let mut input = InBuffer { src: &compressed[..piece], pos: read };
            // The same memory each time: the decoder looks back at what it wrote there.
            let mut output = OutBuffer::around_pos(&mut *plain, written);
            decoder.run(&mut input, &mut output).map_err(|error| error.to_string())?;
            let (was_read, was_written) = (read, written);
            (read, written) = (input.pos(), output.pos());
            if (read, written) == (was_read, was_written) {
                return Err(format!("the frame has {written} bytes instead of {plain_bytes}"));
            }
            if written > was_written && !goes_on(&plain[..written]) {
                break;
            }
        }
        Ok(&plain[..written])
    }
}

/// Memory whose pages the system hands out all at once: each that is handed out when it is first written costs several times as
/// much.
#[derive(Debug, Default)]
struct Pages(Option<MmapMut>);

impl Pages {
    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Returns the first `length` bytes, as they were left; where there were fewer, all are zero.
    fn first(&mut self, length: usize) -> io::Result<&mut [u8]> {
        if self.bytes() < length {
            // The old ones go first, so that there are never both.
            self.0 = None;
            let bytes = length.next_multiple_of(PAGES_BYTES);
            let map = MmapOptions::new().len(bytes).map_anon()?;
            advise(&map, length);
            self.0 = Some(map);
        }
        Ok(self.0.as_deref_mut().map_or(&mut [], |map| &mut map[..length]))
    }
}

/// Asks for the first `length` bytes at once, in large pages where there are such. What is not granted comes page by page.
fn advise(map: &MmapMut, length: usize) {
    #[cfg(target_os = "linux")]
    {
        let _ = map.advise(memmap2::Advice::HugePage);
        let _ = map.advise_range(memmap2::Advice::PopulateWrite, 0, length);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (map, length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Access, Files, SystemFiles};

    /// Lines that do not compress away, so that a frame has many pieces.
    fn text(bytes: usize) -> Vec<u8> {
        let line = |number: usize| format!("{}\n", blake3::hash(&number.to_le_bytes()));
        let mut text: Vec<u8> = (0..=bytes / 65).flat_map(|number| line(number).into_bytes()).collect();
        text.truncate(bytes);
        text
    }

    #[test]
    fn one_bench_reads_frames_of_all_sizes_as_far_as_wanted_and_goes_on_after_a_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::new().unwrap();
        for (number, bytes) in [1, 200_000, 0, PAGES_BYTES, 3 << 20, 70_000, 3 << 20].into_iter().enumerate()
        {
            let plain = text(bytes);
            let sound = zstd::bulk::compress(&plain, 3).unwrap();
            let cut = &sound[..sound.len() - 1];
            let mut overwritten = sound.clone();
            overwritten[..4].fill(0);
            for (kind, compressed) in [("sound", &sound[..]), ("cut", cut), ("overwritten", &overwritten)] {
                let path = folder.path().join(format!("{number}.{kind}"));
                std::fs::write(&path, compressed).unwrap();
                let file = SystemFiles.open(&path, Access::Read).unwrap();
                let there = bench.read(&*file, 0, compressed.len()).unwrap().len();
                assert_eq!(there, compressed.len());
                let read = bench.decompress_while(there, bytes, |_| true);
                // Without a checksum in the frame, one that lacks its last byte may be whole but for its end.
                match kind {
                    "sound" => assert_eq!(read, Ok(&plain[..])),
                    "overwritten" => assert_eq!(read.is_err(), bytes > 0),
                    _ => assert!(read.is_err() || read == Ok(&plain[..])),
                }
                if kind == "sound" {
                    let wanted = bytes.min(50_000);
                    let part = bench.decompress_while(there, bytes, |plain| plain.len() < wanted).unwrap();
                    assert!(part.len() >= wanted && plain.starts_with(part), "{bytes} bytes");
                    assert!(bytes < 3 << 20 || part.len() < bytes, "all was read");
                }
            }
        }
    }
}
