//! Every small file of this host against bytes that nobody wrote: each is read or refused with its place.

use crate::{Config, RememberedHeads, load_or_create_key, parse_key};
use burnlog_log::{ErrorKind, Timestamp, WriterKey};
use proptest::prelude::*;

/// Good texts with a few bytes changed, and arbitrary ones.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let head =
        WriterKey::from_secret([1; 32]).sign_head(&burnlog_log::Frontier::default(), Timestamp::default());
    let good = [
        b"{\"host_name\":\"h\",\"include\":[\"/a/*\"],\"exclude\":[]}".to_vec(),
        [b"0123456789abcdef".repeat(4), b"\n".to_vec()].concat(),
        serde_json::to_vec(&head).unwrap(),
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let edited = (prop::sample::select(good.to_vec()), edits).prop_map(|(mut bytes, edits)| {
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![edited, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn whatever_lies_there_is_read_or_refused_with_its_place(bytes in bytes()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        parse_key(&bytes);
        let errors = [
            Config::load(&path).err().map(|error| (error, ErrorKind::Invalid)),
            RememberedHeads::load(&path).err().map(|error| (error, ErrorKind::Corrupt)),
            // Others may read the file, whatever is in it.
            load_or_create_key(&path).err().map(|error| (error, ErrorKind::Denied)),
        ];
        prop_assert!(errors[2].is_some());
        for (error, kind) in errors.into_iter().flatten() {
            prop_assert_eq!(error.kind(), kind);
            prop_assert!(error.location().starts_with(path.to_str().unwrap()));
        }
        prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
