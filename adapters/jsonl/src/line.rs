//! One line of a segment: how an entry is written and found again by its fixed parts, without a JSON parser.
//! Knows nothing of files, batches or feeds. The README is the normative text.

use crate::payload::{Form, form_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use burnlog_log::{Address, Incomplete, PayloadHash, parse_hex, push_hex, push_number};
use bytes::Bytes;
use memchr::memmem::{self, Finder};
use std::ops::Range;
use std::sync::LazyLock;

/// `{"crc":"xxxxxxxx",`: the part of an active line that its checksum does not cover.
pub(crate) const CRC_PREFIX_BYTES: usize = 18;
/// How a skeleton names its payload, in text that cannot overlap itself; the 64 digits that follow can be left out and computed again.
const PAYLOAD_FIELD: &[u8] = b"\"payload\":\"b3:";
/// Finds [`PAYLOAD_FIELD`].
static PAYLOAD_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PAYLOAD_FIELD));

/// An event as it stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub(crate) skeleton: SkeletonText<'a>,
    pub(crate) payload: PayloadText<'a>,
}

/// A skeleton as it stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkeletonText<'a> {
    /// Verbatim.
    Whole(&'a [u8]),
    /// Without the digits of the payload hash.
    Cut(&'a [u8]),
    /// Base64, for bytes that are not one line of text.
    Base64(&'a [u8]),
}

/// A payload as it stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadText<'a> {
    /// Verbatim.
    Raw(&'a [u8]),
    /// A JSON string, quotes included.
    Text(&'a [u8]),
    /// Base64 without quotes.
    Base64(&'a [u8]),
    /// There is none any more.
    Erased,
}

/// Text in a line that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// An entry line taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    /// The position in the batch; active lines only.
    pub(crate) ordinal: Option<u32>,
    /// Absent where it is computed from the event.
    pub(crate) address: Option<Address>,
    /// Absent where the line is only an entry of an event known before.
    pub(crate) event: Option<Stored<'a>>,
}

/// Starts an active line; [`end_line`] finishes it.
pub(crate) fn begin_line(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(b"{\"crc\":\"00000000\",");
    start
}

/// Fills in the checksum of the line begun at `start` and ends it.
pub(crate) fn end_line(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(&out[start + CRC_PREFIX_BYTES..]);
    out[start + 8..start + 16].copy_from_slice(&hex8(crc));
    out.push(b'\n');
}

/// Writes eight lower-case digits.
pub(crate) fn hex8(number: u32) -> [u8; 8] {
    let mut digits = Vec::with_capacity(8);
    push_hex(&mut digits, &number.to_be_bytes());
    digits.try_into().expect("four bytes are eight digits")
}

/// Reads eight lower-case digits.
pub(crate) fn parse_hex8(digits: &[u8]) -> Option<u32> {
    let mut bytes = [0; 4];
    parse_hex(digits, &mut bytes).then(|| u32::from_be_bytes(bytes))
}

/// Returns what an active line's checksum covers, or `None` where it does not fit. `line` has no newline.
pub(crate) fn checked(line: &[u8]) -> Option<&[u8]> {
    let digits = line.strip_prefix(b"{\"crc\":\"")?.get(..8)?;
    let covered = line.get(CRC_PREFIX_BYTES..)?;
    (&line[16..18] == b"\"," && parse_hex8(digits)? == crc32fast::hash(covered)).then_some(covered)
}

/// Returns the sound active lines in a piece of text without newlines: the text itself, or where a newline was spoiled
/// those that it had separated. What is returned are ranges of `text` and what their checksums cover.
pub(crate) fn sound_lines(text: &[u8]) -> Vec<(Range<usize>, &[u8])> {
    if let Some(covered) = checked(text) {
        return vec![(0..text.len(), covered)];
    }
    // A payload may look like the start of a line, so every start is tried with every end, but not without limit.
    let starts: Vec<usize> = memmem::find_iter(text, b"{\"crc\":\"").take(16).collect();
    let mut found = Vec::new();
    let mut from = 0;
    for start in &starts {
        let ends =
            starts.iter().filter(|end| *end > start).flat_map(|end| [end - 1, *end]).chain([text.len()]);
        let sound = ends
            .filter(|end| *end > *start)
            .find_map(|end| Some((*start..end, checked(&text[*start..end])?)));
        if let Some((range, covered)) = sound.filter(|_| *start >= from) {
            from = range.end;
            found.push((range, covered));
        }
    }
    found
}

/// Appends an active entry line.
pub(crate) fn push_entry(
    out: &mut Vec<u8>,
    ordinal: u32,
    address: &Address,
    event: Option<(&[u8], Option<&[u8]>)>,
) {
    let start = begin_line(out);
    out.extend_from_slice(b"\"entry\":");
    push_number(out, u64::from(ordinal));
    out.push(b',');
    match event {
        None => push_address_only(out, address),
        Some((skeleton, payload)) => push_event(out, Some(address), skeleton, payload),
    }
    end_line(out, start);
}

/// Appends `"address":"…"}`: an entry of an event that stands elsewhere.
pub(crate) fn push_address_only(out: &mut Vec<u8>, address: &Address) {
    out.extend_from_slice(b"\"address\":\"");
    address.push_text(out);
    out.extend_from_slice(b"\"}");
}

/// Appends an event up to the closing brace, with both hashes.
pub(crate) fn push_event(
    out: &mut Vec<u8>,
    address: Option<&Address>,
    skeleton: &[u8],
    payload: Option<&[u8]>,
) {
    if is_plain(skeleton) {
        push_skeleton(out, address, skeleton, b"\"event\":", b"");
    } else {
        push_skeleton(out, address, BASE64.encode(skeleton).as_bytes(), b"\"event_base64\":\"", b"\"");
    }
    push_payload(out, payload);
    out.push(b'}');
}

fn push_skeleton(out: &mut Vec<u8>, address: Option<&Address>, text: &[u8], before: &[u8], after: &[u8]) {
    out.extend_from_slice(b"\"skeleton_bytes\":");
    push_number(out, text.len() as u64);
    if let Some(address) = address {
        out.extend_from_slice(b",\"address\":\"");
        address.push_text(out);
        out.push(b'"');
    }
    out.push(b',');
    out.extend_from_slice(before);
    out.extend_from_slice(text);
    out.extend_from_slice(after);
}

fn push_payload(out: &mut Vec<u8>, payload: Option<&[u8]>) {
    let Some(payload) = payload else {
        out.extend_from_slice(b",\"erased\":true");
        return;
    };
    match form_of(payload) {
        Form::Raw => {
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(payload);
        }
        Form::Text => {
            let text = std::str::from_utf8(payload).expect("the form was chosen by this check");
            out.extend_from_slice(b",\"text\":");
            serde_json::to_writer(out, text).expect("writing a string to memory cannot fail");
        }
        Form::Base64 => {
            out.extend_from_slice(b",\"base64\":\"");
            out.extend_from_slice(BASE64.encode(payload).as_bytes());
            out.push(b'"');
        }
    }
}

/// Whether the skeleton can stand in a line as it is: one line of text that looks like an object.
fn is_plain(skeleton: &[u8]) -> bool {
    skeleton.first() == Some(&b'{')
        && skeleton.last() == Some(&b'}')
        && skeleton.iter().all(|byte| *byte >= 0x20)
        && std::str::from_utf8(skeleton).is_ok()
}

/// Appends the sealed form of an entry. `payload` is what the event's text gives, where it has one.
///
/// The hashes are left out only where computing them again gives the same skeleton and address, unless that is believed.
pub(crate) fn push_sealed(
    out: &mut Vec<u8>,
    address: &Address,
    event: Option<(Stored<'_>, Option<&[u8]>)>,
    recomputes_hashes: bool,
) {
    out.push(b'{');
    match event {
        None => push_address_only(out, address),
        Some((stored, payload)) => {
            let whole = match stored.skeleton {
                SkeletonText::Whole(whole) => whole,
                SkeletonText::Cut(text) | SkeletonText::Base64(text) => text,
            };
            let cut = match (stored.skeleton, payload) {
                (SkeletonText::Whole(skeleton), Some(payload)) => cut_place(skeleton)
                    .filter(|place| !recomputes_hashes || fits_hashes(skeleton, *place, payload, address)),
                _ => None,
            };
            match (stored.skeleton, cut) {
                (_, Some(place)) => push_cut(out, whole, place),
                (SkeletonText::Base64(text), None) => {
                    push_skeleton(out, Some(address), text, b"\"event_base64\":\"", b"\"");
                }
                (_, None) => push_skeleton(out, Some(address), whole, b"\"event\":", b""),
            }
            push_payload_text(out, stored.payload);
            out.push(b'}');
        }
    }
    out.push(b'\n');
}

/// Appends the sealed form of an entry from the event itself, as [`push_sealed`] does from a line.
pub(crate) fn push_compact(
    out: &mut Vec<u8>,
    address: &Address,
    event: Option<(&[u8], Option<&[u8]>)>,
    recomputes_hashes: bool,
) {
    out.push(b'{');
    match event {
        None => push_address_only(out, address),
        Some((skeleton, payload)) => {
            let cut = payload.filter(|_| is_plain(skeleton)).and_then(|payload| {
                let fits =
                    |place: &usize| !recomputes_hashes || fits_hashes(skeleton, *place, payload, address);
                cut_place(skeleton).filter(fits)
            });
            match cut {
                Some(place) => {
                    push_cut(out, skeleton, place);
                    push_payload(out, payload);
                    out.push(b'}');
                }
                None => push_event(out, Some(address), skeleton, payload),
            }
        }
    }
    out.push(b'\n');
}

/// Appends a skeleton without the 64 digits that begin at `place`.
fn push_cut(out: &mut Vec<u8>, skeleton: &[u8], place: usize) {
    out.extend_from_slice(b"\"skeleton_bytes\":");
    push_number(out, (skeleton.len() - 64) as u64);
    out.extend_from_slice(b",\"event\":");
    out.extend_from_slice(&skeleton[..place]);
    out.extend_from_slice(&skeleton[place + 64..]);
}

fn push_payload_text(out: &mut Vec<u8>, payload: PayloadText<'_>) {
    match payload {
        PayloadText::Raw(raw) => {
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(raw);
        }
        PayloadText::Text(quoted) => {
            out.extend_from_slice(b",\"text\":");
            out.extend_from_slice(quoted);
        }
        PayloadText::Base64(text) => {
            out.extend_from_slice(b",\"base64\":\"");
            out.extend_from_slice(text);
            out.push(b'"');
        }
        PayloadText::Erased => out.extend_from_slice(b",\"erased\":true"),
    }
}

/// Returns where the 64 digits of the payload hash begin, if the place is found again once they are gone.
fn cut_place(skeleton: &[u8]) -> Option<usize> {
    let place = PAYLOAD_FINDER.find_iter(skeleton).last()? + PAYLOAD_FIELD.len();
    let digits = skeleton.get(place..place + 64)?;
    let is_hash = digits.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit));
    (is_hash && skeleton.get(place + 64) == Some(&b'"')).then_some(place)
}

/// Whether the digits are those of the payload, and the address that of the skeleton.
fn fits_hashes(skeleton: &[u8], place: usize, payload: &[u8], address: &Address) -> bool {
    let mut digits = Vec::with_capacity(64);
    push_hex(&mut digits, &PayloadHash::of(payload).0);
    skeleton[place..place + 64] == digits && Address::of(skeleton) == *address
}

/// Appends a cut skeleton with room for the hash; `None` where it has no place for one.
pub(crate) fn restore_skeleton(out: &mut Vec<u8>, cut: &[u8]) -> Option<Incomplete> {
    let place = PAYLOAD_FINDER.find_iter(cut).last()? + PAYLOAD_FIELD.len();
    let (before, after) = cut.split_at(place);
    after.starts_with(b"\"").then(|| Incomplete::push(out, before, after))
}

/// Takes apart what an active entry line's checksum covers.
pub(crate) fn parse_active(covered: &[u8]) -> Option<Parsed<'_>> {
    let mut rest = Rest(covered);
    rest.literal(b"\"entry\":")?;
    let ordinal = u32::try_from(rest.number()?).ok()?;
    rest.literal(b",")?;
    parse_body(rest, Some(ordinal))
}

/// Takes apart a sealed entry line without its newline; `None` for any other line.
pub(crate) fn parse_sealed(line: &[u8]) -> Option<Parsed<'_>> {
    let mut rest = Rest(line);
    rest.literal(b"{")?;
    parse_body(rest, None)
}

fn parse_body(mut rest: Rest<'_>, ordinal: Option<u32>) -> Option<Parsed<'_>> {
    let sealed = ordinal.is_none();
    if rest.literal(b"\"address\":\"").is_some() {
        let address = Address::parse(rest.take(Address::TEXT_BYTES)?)?;
        return (rest.0 == b"\"}").then_some(Parsed { ordinal, address: Some(address), event: None });
    }
    rest.literal(b"\"skeleton_bytes\":")?;
    let skeleton_bytes = usize::try_from(rest.number()?).ok()?;
    let mut address = None;
    if rest.literal(b",\"address\":\"").is_some() {
        address = Some(Address::parse(rest.take(Address::TEXT_BYTES)?)?);
        rest.literal(b"\"")?;
    }
    let skeleton = if rest.literal(b",\"event\":").is_some() {
        let text = rest.take(skeleton_bytes)?;
        if address.is_some() { SkeletonText::Whole(text) } else { SkeletonText::Cut(text) }
    } else {
        rest.literal(b",\"event_base64\":\"")?;
        let text = rest.take(skeleton_bytes)?;
        rest.literal(b"\"")?;
        SkeletonText::Base64(text)
    };
    let rest = rest.0.strip_suffix(b"}")?;
    let payload = if let Some(raw) = rest.strip_prefix(b",\"payload\":") {
        PayloadText::Raw(raw)
    } else if let Some(quoted) = rest.strip_prefix(b",\"text\":") {
        PayloadText::Text(quoted)
    } else if let Some(text) = rest.strip_prefix(b",\"base64\":\"") {
        PayloadText::Base64(text.strip_suffix(b"\"")?)
    } else if rest == b",\"erased\":true" {
        PayloadText::Erased
    } else {
        return None;
    };
    (address.is_some() || (sealed && matches!(skeleton, SkeletonText::Cut(_)))).then_some(Parsed {
        ordinal,
        address,
        event: Some(Stored { skeleton, payload }),
    })
}

impl PayloadText<'_> {
    /// Returns the payload; `None` for an erased one. A verbatim payload is a slice of `block`, which this text must be
    /// part of.
    pub(crate) fn decode(&self, block: &Bytes) -> Result<Option<Bytes>, Broken> {
        Ok(Some(match self {
            Self::Raw(raw) => block.slice_ref(raw),
            Self::Text(quoted) => {
                serde_json::from_slice::<String>(quoted).map_err(|_| Broken)?.into_bytes().into()
            }
            Self::Base64(text) => BASE64.decode(text).map_err(|_| Broken)?.into(),
            Self::Erased => return Ok(None),
        }))
    }

    /// Returns the length of the payload; 0 for an erased one.
    pub(crate) fn payload_bytes(&self) -> Option<u32> {
        Some(match self {
            Self::Raw(raw) => raw.len() as u32,
            Self::Text(quoted) => serde_json::from_slice::<String>(quoted).ok()?.len() as u32,
            Self::Base64(text) => BASE64.decode(text).ok()?.len() as u32,
            Self::Erased => 0,
        })
    }
}

impl SkeletonText<'_> {
    /// Returns a skeleton that is stored whole; `None` for a cut one and where the text is broken.
    pub(crate) fn decode(&self, block: &Bytes) -> Option<Bytes> {
        match self {
            Self::Whole(text) => Some(block.slice_ref(text)),
            Self::Base64(text) => Some(BASE64.decode(text).ok()?.into()),
            Self::Cut(_) => None,
        }
    }
}

/// What is left of a line while it is parsed from the front.
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) fn literal(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A decimal number of at most 18 digits.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 || length > 18 {
            return None;
        }
        Some(self.take(length)?.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    }
}
