//! `erased.jsonl`: the addresses whose payloads must not be read any more. One checksummed line each, only ever appended to.

use crate::files::{Access, Files, io_error, read_file};
use crate::line::{Rest, begin_line, checked, end_line};
use burnlog_log::{Address, Result, push_number};
use std::collections::HashMap;
use std::io;
use std::path::Path;

pub(crate) const FILE_NAME: &str = "erased.jsonl";

/// The erased addresses, each with the length that its payload had.
#[derive(Debug, Clone, Default)]
pub(crate) struct Erased {
    addresses: HashMap<Address, u64>,
    /// The bytes up to the end of the last whole line.
    bytes: u64,
    /// Offsets of lines that cannot be read.
    damaged: Vec<u64>,
}

impl Erased {
    pub(crate) fn contains(&self, address: &Address) -> bool {
        !self.addresses.is_empty() && self.addresses.contains_key(address)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, u64)> {
        self.addresses.iter().map(|(address, bytes)| (address, *bytes))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the offsets of lines that cannot be read.
    pub(crate) fn damaged(&self) -> &[u64] {
        &self.damaged
    }

    /// Reads the file; an absent one is empty. A last line without its end was never acknowledged.
    pub(crate) fn read(files: &dyn Files, folder: &Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let bytes = match read_file(files, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io_error("read erased addresses", path.display(), error)),
        };
        let mut erased = Self::default();
        while let Some(length) = memchr::memchr(b'\n', &bytes[erased.bytes as usize..]) {
            let line = &bytes[erased.bytes as usize..][..length];
            match parse(line) {
                Some((address, payload_bytes)) => drop(erased.addresses.insert(address, payload_bytes)),
                None => erased.damaged.push(erased.bytes),
            }
            erased.bytes += length as u64 + 1;
        }
        Ok(erased)
    }

    /// Adds addresses, durably. The caller holds the ledger's lock and has read the file under it.
    pub(crate) fn add(&self, files: &dyn Files, folder: &Path, addresses: &[(Address, u64)]) -> Result<Self> {
        let mut lines = Vec::new();
        let mut added = self.clone();
        for (address, payload_bytes) in addresses {
            if added.addresses.insert(*address, *payload_bytes).is_none() {
                push(&mut lines, address, *payload_bytes);
            }
        }
        let path = folder.join(FILE_NAME);
        let write = || {
            let file = files.open(&path, Access::WriteOrCreate)?;
            let is_new = self.bytes == 0;
            // A torn line of an earlier attempt goes first: nothing may be glued to it.
            file.set_bytes(self.bytes)?;
            file.write_at(&lines, self.bytes)?;
            file.sync()?;
            if is_new { files.sync_folder(folder) } else { Ok(()) }
        };
        if !lines.is_empty() {
            write().map_err(|error| io_error("erase", path.display(), error))?;
        }
        added.bytes += lines.len() as u64;
        Ok(added)
    }
}

fn push(out: &mut Vec<u8>, address: &Address, payload_bytes: u64) {
    let start = begin_line(out);
    out.extend_from_slice(b"\"erased\":\"");
    address.push_text(out);
    out.extend_from_slice(b"\",\"bytes\":");
    push_number(out, payload_bytes);
    out.push(b'}');
    end_line(out, start);
}

fn parse(line: &[u8]) -> Option<(Address, u64)> {
    let mut rest = Rest(checked(line)?);
    rest.literal(b"\"erased\":\"")?;
    let address = Address::parse(rest.take(Address::TEXT_BYTES)?)?;
    rest.literal(b"\",\"bytes\":")?;
    let payload_bytes = rest.number()?;
    (rest.0 == b"}").then_some((address, payload_bytes))
}
