//! The few forms that bodies are made of: fixed-width little-endian numbers, fixed arrays, texts and bytes with a length,
//! lists with a count. Reading never panics and never allocates more than there are bytes.

use burnlog_log::{Error, ErrorKind, Result};
use bytes::Bytes;

/// Appends to a body.
#[derive(Debug, Default)]
pub struct Encoder(pub Vec<u8>);

impl Encoder {
    /// Appends one byte.
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends 8 bytes, little-endian.
    pub fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends 8 bytes, little-endian, two's complement.
    pub fn signed(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends bytes whose number the reader knows.
    pub fn array(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends a count in 4 bytes.
    pub fn count(&mut self, count: usize) {
        let count = u32::try_from(count)
            .expect("nothing here has four billion parts: the limits of a batch and a page");
        self.0.extend_from_slice(&count.to_le_bytes());
    }

    /// Appends a length in 4 bytes and so many bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.array(bytes);
    }

    /// Appends a text as its bytes.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends 0, or 1 and what `write` appends.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Appends a count and what `write` appends for each item.
    pub fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.count(items.len());
        for item in items {
            write(self, item);
        }
    }
}

/// Reads a body from its front. Everything that does not fit is `Invalid`.
#[derive(Debug)]
pub struct Decoder {
    bytes: Bytes,
    whole: usize,
}

impl Decoder {
    /// Takes a body.
    pub fn new(bytes: Bytes) -> Self {
        Self { whole: bytes.len(), bytes }
    }

    fn malformed(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::Invalid,
            "read body",
            format!("{what} at byte {}", self.whole - self.bytes.len()),
        )
    }

    /// Reads so many bytes; they share the memory of the body.
    pub fn slice(&mut self, length: usize) -> Result<Bytes> {
        if self.bytes.len() < length {
            return Err(self.malformed("the body ends too early"));
        }
        Ok(self.bytes.split_to(length))
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.slice(1)?[0])
    }

    /// Reads 0 or 1.
    pub fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.malformed(&format!("{other} is neither 0 nor 1"))),
        }
    }

    /// Reads 8 bytes.
    pub fn number(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads 8 bytes as a signed number.
    pub fn signed(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Reads `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.slice(N)?;
        Ok(<[u8; N]>::try_from(&bytes[..]).expect("slice gave as many as asked"))
    }

    /// Reads a count of items that are at least `item_bytes` long each: one that cannot be there is refused at once.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count.saturating_mul(item_bytes) > self.bytes.len() {
            return Err(self.malformed("a count of more than there is"));
        }
        Ok(count)
    }

    /// Reads bytes with their length; they share the memory of the body.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let length = self.count(1)?;
        self.slice(length)
    }

    /// Reads a text.
    pub fn text(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| self.malformed("a text that is not UTF-8"))
    }

    /// Reads what [`Encoder::option`] wrote.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Reads what [`Encoder::list`] wrote, of items that are at least `item_bytes` long.
    pub fn list<T>(
        &mut self,
        item_bytes: usize,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(item_bytes)?;
        (0..count).map(|_| read(self)).collect()
    }

    /// Refuses a number that names no form.
    pub fn unknown(&self, what: &str, tag: u8) -> Error {
        self.malformed(&format!("{tag} names no {what}"))
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.malformed("more bytes than the message has")) }
    }
}
