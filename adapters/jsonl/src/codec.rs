//! The one place that speaks bincode: fixed-width integers, little end first. Used for the tables of sealed segments and
//! the headers of the index; golden tests hold the bytes.

use bincode::config::{Configuration, Fixint, LittleEndian};
use bincode::{Decode, Encode};

const CONFIG: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding().with_little_endian();

/// Encodes a value with the CRC32 of its bytes in front.
pub(crate) fn encode(value: &impl Encode) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(bincode::encode_to_vec(value, CONFIG).expect("plain data can be encoded"));
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Decodes what [`encode`] made and nothing else. The checksum is looked at first, so that no length is trusted.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    if crc32fast::hash(rest).to_le_bytes() != *crc {
        return None;
    }
    let (value, taken) = bincode::decode_from_slice(rest, CONFIG).ok()?;
    (taken == rest.len()).then_some(value)
}
