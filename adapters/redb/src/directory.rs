//! The directory of a block: what is known of its events without decompressing it. Encoded like the rows of
//! `codec.rs`, with a checksum of its own, because dedup trusts the addresses in it.

use crate::codec::Fields;
use burnlog_log::Address;

/// From this slot on, events entered `feed` at `index` and the indexes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The first slot of the run.
    pub(crate) slot: u32,
    /// The number of the feed that brought the events.
    pub(crate) feed: u32,
    /// The index of the first of them there.
    pub(crate) index: u64,
}

/// The lengths of one event in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lengths {
    /// Bytes of the skeleton.
    pub(crate) skeleton: u16,
    /// Bytes of the payload that the block holds; 0 once an erased payload was removed.
    pub(crate) payload: u32,
}

impl Lengths {
    /// The bytes of both.
    pub(crate) fn total(self) -> usize {
        usize::from(self.skeleton) + self.payload as usize
    }
}

/// What is known of the events of one block without decompressing it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Directory {
    /// The id of the block's bytes: another one each time that they are written anew.
    pub(crate) id: u64,
    /// Who brought the events.
    pub(crate) origins: Vec<Origin>,
    /// The slots of erased events, ascending.
    pub(crate) erased: Vec<u32>,
    /// The lengths by slot.
    pub(crate) lengths: Vec<Lengths>,
    /// The addresses by slot.
    pub(crate) addresses: Vec<Address>,
}

impl Directory {
    /// The bytes of the block before compression.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.lengths.iter().map(|lengths| lengths.total()).sum()
    }

    /// The number of events.
    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether the payload of the event at `slot` was erased.
    pub(crate) fn is_erased(&self, slot: usize) -> bool {
        self.erased.binary_search(&(slot as u32)).is_ok()
    }

    /// The feed that brought the event at `slot`, and its index there.
    pub(crate) fn origin(&self, slot: usize) -> (u32, u64) {
        let after = self.origins.partition_point(|origin| origin.slot as usize <= slot);
        let origin = self.origins[after - 1];
        (origin.feed, origin.index + (slot as u64 - u64::from(origin.slot)))
    }

    /// Adds one event behind the others.
    pub(crate) fn push(&mut self, address: Address, lengths: Lengths, origin: (u32, u64), erased: bool) {
        let slot = self.len();
        let (feed, index) = origin;
        if slot == 0 || self.origin(slot - 1) != (feed, index.wrapping_sub(1)) {
            self.origins.push(Origin { slot: slot as u32, feed, index });
        }
        if erased {
            self.erased.push(slot as u32);
        }
        self.lengths.push(lengths);
        self.addresses.push(address);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { id, origins, erased, lengths, addresses } = self;
        let bytes = 24 + 16 * origins.len() + 4 * erased.len() + 38 * addresses.len();
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&id.to_le_bytes());
        for count in [addresses.len(), origins.len(), erased.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for origin in origins {
            out.extend_from_slice(&origin.slot.to_le_bytes());
            out.extend_from_slice(&origin.feed.to_le_bytes());
            out.extend_from_slice(&origin.index.to_le_bytes());
        }
        for slot in erased {
            out.extend_from_slice(&slot.to_le_bytes());
        }
        for length in lengths {
            out.extend_from_slice(&length.skeleton.to_le_bytes());
            out.extend_from_slice(&length.payload.to_le_bytes());
        }
        for address in addresses {
            out.extend_from_slice(&address.0);
        }
        let checksum = crc32fast::hash(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        (fields.u32()? == crc32fast::hash(fields.0)).then_some(())?;
        let id = fields.u64()?;
        let [events, origin_count, erased_count] =
            [fields.u32()? as usize, fields.u32()? as usize, fields.u32()? as usize];
        let bytes = events
            .checked_mul(38)?
            .checked_add(origin_count.checked_mul(16)?)?
            .checked_add(erased_count.checked_mul(4)?)?;
        (fields.0.len() == bytes).then_some(())?;
        let origins: Vec<Origin> = (0..origin_count)
            .map(|_| Some(Origin { slot: fields.u32()?, feed: fields.u32()?, index: fields.u64()? }))
            .collect::<Option<_>>()?;
        let erased: Vec<u32> = (0..erased_count).map(|_| fields.u32()).collect::<Option<_>>()?;
        let lengths = (0..events)
            .map(|_| Some(Lengths { skeleton: fields.u16()?, payload: fields.u32()? }))
            .collect::<Option<_>>()?;
        let addresses = fields.0.as_chunks::<32>().0.iter().map(|bytes| Address(*bytes)).collect();
        let ascending = |slots: &mut dyn Iterator<Item = u32>| slots.is_sorted_by(|a, b| a < b);
        let in_range = |slot: Option<u32>| slot.is_none_or(|slot| (slot as usize) < events);
        let sound = origins.first().is_some_and(|origin| origin.slot == 0)
            && ascending(&mut origins.iter().map(|origin| origin.slot))
            && in_range(origins.last().map(|origin| origin.slot))
            && ascending(&mut erased.iter().copied())
            && in_range(erased.last().copied());
        sound.then_some(Self { id, origins, erased, lengths, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{assert_exact, hex};

    fn directory() -> Directory {
        let mut directory = Directory { id: 9, ..Directory::default() };
        let lengths = Lengths { skeleton: 3, payload: 4 };
        directory.push(Address([0xc0; 32]), lengths, (2, 5), false);
        directory.push(Address([0xc1; 32]), lengths, (2, 6), true);
        directory.push(Address([0xc2; 32]), Lengths { skeleton: 1, payload: 0 }, (2, 8), false);
        directory
    }

    #[test]
    fn golden_directory() {
        let value = directory().encode();
        let golden = [
            "0900000000000000",
            "030000000200000001000000",
            "00000000020000000500000000000000",
            "02000000020000000800000000000000",
            "01000000",
            "030004000000",
            "030004000000",
            "010000000000",
            &"c0".repeat(32),
            &"c1".repeat(32),
            &"c2".repeat(32),
        ];
        assert_eq!(hex(&value[4..]), golden.concat());
        assert_eq!(value[..4], crc32fast::hash(&value[4..]).to_le_bytes());
        assert_eq!(Directory::decode(&value), Some(directory()));
        assert_exact(&value, Directory::decode);
    }

    #[test]
    fn a_flipped_bit_in_a_directory_is_noticed() {
        let value = directory().encode();
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Directory::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_directory_with_a_right_checksum_must_still_make_sense() {
        let spoil: [fn(&mut Directory); 5] = [
            |directory| directory.origins.clear(),
            |directory| directory.origins[0].slot = 1,
            |directory| directory.origins[1].slot = 3,
            |directory| directory.erased = vec![1, 1],
            |directory| directory.erased = vec![3],
        ];
        for spoil in spoil {
            let mut spoiled = directory();
            spoil(&mut spoiled);
            assert_eq!(Directory::decode(&spoiled.encode()), None, "{spoiled:?}");
        }
        assert_eq!(Directory::decode(&Directory::default().encode()), None);
    }

    #[test]
    fn origins_are_runs() {
        let directory = directory();
        assert_eq!(directory.origins.len(), 2);
        assert_eq!([0, 1, 2].map(|slot| directory.origin(slot)), [(2, 5), (2, 6), (2, 8)]);
        assert_eq!([0, 1, 2].map(|slot| directory.is_erased(slot)), [false, true, false]);
        assert_eq!(directory.raw_bytes(), 15);
    }
}
