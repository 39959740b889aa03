//! One segment as the state knows it: its name, its form, how much of it is indexed. No I/O beyond paths.

use crate::index::Covered;
use burnlog_log::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a segment is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A file of lines that may still grow.
    Active,
    /// A compressed file that does not change.
    Sealed,
    /// No file, although the index knows it.
    Gone,
}

/// How much of a segment is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    pub(crate) slots: u32,
    /// Of an active segment: the offset after the last commit line known.
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) payload_bytes: u64,
}

/// A segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Never used twice in this process; a new one whenever the bytes behind it change.
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) form: Form,
    /// What the runs of the index hold.
    pub(crate) covered: Extent,
    /// What runs and tail hold together.
    pub(crate) known: Extent,
    /// The CRCs of the last bytes before `covered.bytes`, by which the file is recognised.
    pub(crate) tail_crcs: [u32; 2],
    /// Of an abandoned segment on which only readers are at work: the bytes that they count beyond the published length.
    pub(crate) accepted_bytes: u64,
    /// Up to where the bytes of an active segment of another process are known to be synced.
    pub(crate) synced_bytes: u64,
    /// Whether everything in the file is known, so that it need not be looked at again. Sealed segments only.
    pub(crate) is_complete: bool,
}

impl Segment {
    pub(crate) fn new(name: Arc<str>, form: Form) -> Self {
        Self {
            id: next_id(),
            name,
            form,
            covered: Extent::default(),
            known: Extent::default(),
            tail_crcs: [0; 2],
            accepted_bytes: 0,
            synced_bytes: 0,
            is_complete: false,
        }
    }

    /// Takes up what a manifest says.
    pub(crate) fn of_covered(covered: &Covered) -> Self {
        let extent = Extent {
            slots: covered.slots,
            bytes: covered.bytes,
            events: covered.events,
            payload_bytes: covered.payload_bytes,
        };
        Self {
            covered: extent,
            known: extent,
            tail_crcs: covered.tail_crcs,
            is_complete: covered.is_complete,
            ..Self::new(covered.name.as_str().into(), Form::Gone)
        }
    }

    /// Returns what the manifest is to say.
    pub(crate) fn to_covered(&self) -> Covered {
        Covered {
            name: self.name.to_string(),
            slots: self.covered.slots,
            bytes: self.covered.bytes,
            tail_crcs: self.tail_crcs,
            events: self.covered.events,
            payload_bytes: self.covered.payload_bytes,
            is_complete: self.is_complete && self.covered == self.known,
        }
    }

    /// Sets another form; what was read of the old one is not used any more.
    pub(crate) fn set_form(&mut self, form: Form) {
        if self.form != form {
            self.form = form;
            self.id = next_id();
        }
    }

    /// Forgets everything known, so that it is read again.
    pub(crate) fn forget(&mut self) {
        (self.covered, self.known, self.tail_crcs, self.is_complete) =
            (Extent::default(), Extent::default(), [0; 2], false);
    }

    /// Returns what reading needs to know.
    pub(crate) fn reference(&self) -> SegmentRef {
        SegmentRef { id: self.id, name: Arc::clone(&self.name), form: self.form }
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Which segment to read, as it was at one moment.
#[derive(Debug, Clone)]
pub(crate) struct SegmentRef {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) form: Form,
}

impl SegmentRef {
    /// Returns the file for messages.
    pub(crate) fn display(&self) -> String {
        let ending = if self.form == Form::Sealed { "jsonl.zst" } else { "jsonl" };
        format!("segments/{}.{ending}", self.name)
    }
}

/// The files of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Active,
    Sealed,
    /// A sealed segment being written.
    SealedNew,
    /// The published length.
    Published,
}

impl Part {
    fn ending(self) -> &'static str {
        match self {
            Self::Active => ".jsonl",
            Self::Sealed => ".jsonl.zst",
            Self::SealedNew => ".jsonl.zst.new",
            Self::Published => ".durable",
        }
    }

    /// Splits a file name into segment name and part; `None` for a file that is none of ours.
    pub(crate) fn of(file_name: &str) -> Option<(&str, Self)> {
        [Self::SealedNew, Self::Sealed, Self::Active, Self::Published].into_iter().find_map(|part| {
            let name = file_name.strip_suffix(part.ending())?;
            let is_name =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            is_name.then_some((name, part))
        })
    }

    /// Returns the path of this part of a segment.
    pub(crate) fn path(self, folder: &Path, name: &str) -> PathBuf {
        folder.join("segments").join(format!("{name}{}", self.ending()))
    }
}

/// Makes a name: the time in UTC, so that names sort by first use, and something random.
pub(crate) fn new_name(now: Timestamp, random: [u8; 4]) -> String {
    let whole = Timestamp::from_micros(now.as_micros().div_euclid(1_000_000) * 1_000_000);
    let time: String = whole.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{time}-{:08x}", u32::from_be_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_time_and_file_names_the_part() {
        let name = new_name(Timestamp::from_micros(1_770_889_060_665_000), [0, 1, 2, 255]);
        assert_eq!(name, "20260212T093740Z-000102ff");
        for part in [Part::Active, Part::Sealed, Part::SealedNew, Part::Published] {
            let path = part.path(Path::new("x"), &name);
            assert_eq!(Part::of(path.file_name().unwrap().to_str().unwrap()), Some((name.as_str(), part)));
        }
        for other in ["notes.txt", ".jsonl", "a b.jsonl", "x.jsonl.gz", "../x.jsonl"] {
            assert_eq!(Part::of(other), None, "{other}");
        }
    }
}
