//! Receipts of erasures: which payloads somebody made unreadable. A receipt makes no row. It says where rows may tell
//! of what the log no longer has; rows cannot be taken apart again, so the folds then begin anew.

use burnlog_log::{Address, Kind, Position, Skeleton, Timestamp};
use serde::{Deserialize, Serialize};

/// How many addresses one receipt names at most: larger erasures have several.
pub const RECEIPT_ADDRESSES_MAX: usize = 10_000;

/// The payload of an `erase` event; `docs/format.md` has its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReceipt {
    /// The events, ascending.
    pub erased: Vec<Address>,
    /// When.
    pub at: Timestamp,
    /// Why, in the words of whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ErasureReceipt {
    /// Returns where the event of a receipt stands.
    pub fn position() -> Position<'static> {
        Position {
            kind: Kind::Erase,
            source: "burnlog".into(),
            stream: "erasures".into(),
            seq: 0,
            part: None,
        }
    }
}

/// Returns whether an event is a receipt, without parsing more of it than that.
pub(crate) fn is_receipt(skeleton: &[u8]) -> bool {
    skeleton.starts_with(br#"{"v":1,"kind":"erase","#) && Skeleton::parse(skeleton).is_ok()
}

/// Returns the events that a receipt names; none where it cannot be read.
pub(crate) fn named(payload: &[u8]) -> Vec<Address> {
    serde_json::from_slice(payload).map(|receipt: ErasureReceipt| receipt.erased).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let erased = vec![Address([1; 32]), Address([2; 32])];
        let receipt = ErasureReceipt { erased: erased.clone(), at: Timestamp::from_micros(0), reason: None };
        let payload = serde_json::to_vec(&receipt).unwrap();
        assert_eq!(named(&payload), erased);
        for odd in ["", "[]", "{\"erased\":[\"b3:00\"],\"at\":\"1970-01-01T00:00:00Z\"}"] {
            assert_eq!(named(odd.as_bytes()), []);
        }
        let mut batch = burnlog_log::Batch::default();
        batch.push(ErasureReceipt::position(), &payload).unwrap();
        let stamp = Position { kind: Kind::Stamp, ..ErasureReceipt::position() };
        batch.push(stamp, &payload).unwrap();
        assert_eq!([0, 1].map(|at| is_receipt(batch.event(at).skeleton)), [true, false]);
    }
}
