//! Public test vectors, where they are present: a folder `shared/vectors` beside the checkout, or the one that
//! `BURNLOG_TEST_VECTORS` names. Every claim here is also made by a test that needs no vectors.

use burnlog_log::{Frontier, Signature, WriterId, leaf, parse_hex};
use std::fs;
use std::path::PathBuf;

/// The folder of one set, or `None` with a line that says so.
fn vectors(set: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("BURNLOG_TEST_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    let folder = folder.join(set);
    if !folder.is_dir() {
        eprintln!("no test vectors at {}; set BURNLOG_TEST_VECTORS", folder.display());
        return None;
    }
    Some(folder)
}

/// C2SP/CCTV: 914 edge cases of Ed25519; a strict verifier accepts exactly the listed ones.
#[test]
fn signatures_are_verified_strictly() {
    let Some(folder) = vectors("cctv-ed25519") else { return };
    let accepted: Vec<u64> = fs::read_to_string(folder.join("dalek_verify_strict_accepts.txt"))
        .unwrap()
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    let text = fs::read(folder.join("ed25519/ed25519vectors.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    assert_eq!((cases.len(), accepted.len()), (914, 43));
    for case in cases {
        let (mut key, mut signature) = (WriterId([0; 32]), Signature([0; 64]));
        assert!(parse_hex(case["key"].as_str().unwrap().as_bytes(), &mut key.0));
        assert!(parse_hex(case["sig"].as_str().unwrap().as_bytes(), &mut signature.0));
        let number = case["number"].as_u64().unwrap();
        let verified = key.verifies(case["msg"].as_str().unwrap().as_bytes(), &signature);
        assert_eq!(verified, accepted.contains(&number), "case {number}");
    }
}

/// transparency-dev/tessera: the roots of 16 signed checkpoints over the entries of one log.
#[test]
fn roots_are_those_of_a_public_log() {
    let Some(folder) = vectors("tessera-testlog") else { return };
    let log = folder.join("testdata/log");
    let bundle = fs::read(log.join("tile/entries/000.p/15")).unwrap();
    let mut frontier = Frontier::default();
    let mut rest = bundle.as_slice();
    for size in 0..=15u64 {
        let checkpoint = fs::read_to_string(log.join(format!("checkpoint.{size}"))).unwrap();
        let lines: Vec<&str> = checkpoint.lines().collect();
        assert_eq!(lines[1], size.to_string());
        let text = burnlog_log::BatchHead::signed_text(
            &WriterId([0; 32]),
            size,
            &frontier.root(),
            burnlog_log::Timestamp::default(),
        );
        assert_eq!(text.lines().nth(2), Some(lines[2]), "root at size {size}");
        if let [high, low, tail @ ..] = rest {
            let (entry, next) = tail.split_at(usize::from(*high) << 8 | usize::from(*low));
            frontier.push(leaf(entry));
            rest = next;
        }
    }
}
