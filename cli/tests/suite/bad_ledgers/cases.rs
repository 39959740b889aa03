//! How each damaged ledger is made. The name of a case begins with the code of its main finding.

use super::build::{Home, event, line, newest, sound, writer};
use burnlog_log::conformance::build::{Event, Prepared, TestFeed};
use burnlog_log::{Address, Backend, Frontier, Kind, PayloadHash, Timestamp, WriterKey, leaf};
use std::fs;

/// One damaged ledger.
pub(super) struct Case {
    /// `<code>_<what was done>`: the name of its folder.
    pub(super) name: &'static str,
    /// Makes it in an empty folder, or from a copy of the golden ledger.
    pub(super) make: fn(&Home),
    /// Whether it starts from a copy of the golden ledger.
    pub(super) from_golden: bool,
}

const fn case(name: &'static str, make: fn(&Home)) -> Case {
    Case { name, make, from_golden: false }
}

const fn golden(name: &'static str, make: fn(&Home)) -> Case {
    Case { name, make, from_golden: true }
}

pub(super) const CASES: &[Case] = &[
    case("address-mismatch_another-address", |home| {
        lie(home, |batch| {
            batch.entries[0] = Address([7; 32]);
            batch.events[0].address = Address([7; 32]);
        });
    }),
    golden("erased-line_flipped-bit", |home| home.spoil("erased.jsonl", |bytes| bytes[30] ^= 1)),
    golden("erased-unknown_line-added", |home| {
        home.spoil("erased.jsonl", |bytes| {
            let covered = format!(r#""erased":"{}","bytes":3}}"#, Address([7; 32]));
            bytes.extend_from_slice(checked(&covered).as_bytes());
        });
    }),
    case("feed-cut_last-batch-missing", |home| {
        let (one, mut two) = sound(home);
        two.append(&home.open(), &[line("t", 2)]).unwrap();
        let longer = newest(&two);
        fs::remove_dir_all(home.ledger()).unwrap();
        let again = Home::new(&home.folder);
        sound(&again);
        again.remember(&[newest(&one), longer]);
    }),
    case("feed-lost_remembered-feed-missing", |home| {
        let (one, two) = sound(home);
        let three = TestFeed::new(3).prepare(&[line("u", 0)]).head;
        home.remember(&[newest(&one), newest(&two), three]);
    }),
    case("frontier-mismatch_another-frontier", |home| {
        lie(home, |batch| {
            batch.frontier = frontier(&[b"a", b"b", b"c", b"d", b"e"]);
        });
    }),
    case("head-changed_another-root-remembered", |home| {
        let (one, two) = sound(home);
        let other = frontier(&[b"a", b"b", b"c", b"d"]);
        home.remember(&[key(1).sign_head(&other, newest(&one).recorded_at), newest(&two)]);
    }),
    case("index-incomplete_address-changed", |home| {
        sound(home);
        home.open().compact().unwrap();
        home.spoil(".run", |bytes| {
            let at = find(bytes, &line("s", 1).address.0[..16]);
            bytes[at + 15] ^= 1;
            seal_page(bytes, at);
        });
    }),
    golden("index-manifest_flipped-bit", |home| home.spoil("manifest", |bytes| bytes[40] ^= 1)),
    golden("index-page_flipped-bit", |home| {
        home.spoil(".run", |bytes| {
            let at = find(bytes, &line("s", 1).address.0[..16]);
            bytes[at + 4000 - at % 4096] ^= 1;
        });
    }),
    golden("index-mismatch_slot-changed", |home| {
        home.spoil(".run", |bytes| {
            let at = find(bytes, &line("s", 1).address.0[..16]);
            // Segment (u32) and slot follow the sixteen bytes of the address.
            bytes[at + 20] ^= 1;
            seal_page(bytes, at);
        });
    }),
    case("newer-skeleton_version-two", |home| {
        lie(home, |batch| {
            let text = String::from_utf8(batch.events[0].skeleton.clone()).unwrap();
            replace(batch, text.replace("{\"v\":1,", "{\"v\":2,\"new\":[],").as_bytes());
        });
    }),
    case("payload-mismatch_another-payload", |home| {
        lie(home, |batch| {
            batch.events[0].payload = b"{\"another\":1}".to_vec();
        });
    }),
    case("published-length_flipped-bit", |home| {
        sound(home);
        home.spoil(".durable", |bytes| bytes[13] ^= 1);
    }),
    case("published-length_missing", |home| {
        sound(home);
        fs::remove_file(home.file(".durable")).unwrap();
    }),
    case("root-mismatch_another-root", |home| {
        lie(home, |batch| {
            let other = frontier(&[b"a", b"b", b"c", b"d", b"e"]);
            batch.head = key(1).sign_head(&other, batch.head.recorded_at);
        });
    }),
    golden("sealed-table_flipped-bit", |home| {
        home.spoil(".jsonl.zst", |bytes| {
            let at = bytes.len() - 60;
            bytes[at] ^= 1;
        });
    }),
    golden("sealed-table_cut-off", |home| home.spoil(".jsonl.zst", |bytes| bytes.truncate(bytes.len() - 20))),
    case("segment-damaged_flipped-bit", |home| {
        sound(home);
        home.spoil(".jsonl", |bytes| {
            let at = find(bytes, b"Say hi.");
            bytes[at] ^= 1;
        });
    }),
    case("segment-damaged_cut-short", |home| {
        sound(home);
        home.spoil(".jsonl", |bytes| bytes.truncate(bytes.len() - 100));
    }),
    case("segment-damaged_commit-line", |home| {
        sound(home);
        home.spoil(".jsonl", |bytes| {
            let at = find(bytes, b"\"commit\"");
            bytes[at + 1] ^= 1;
        });
    }),
    golden("segment-damaged_sealed-frame", |home| home.spoil(".jsonl.zst", |bytes| bytes[100] ^= 1)),
    golden("segment-missing_sealed", |home| fs::remove_file(home.file(".jsonl.zst")).unwrap()),
    case("signature-invalid_another-instant", |home| {
        lie(home, |batch| {
            batch.head.recorded_at = Timestamp::from_micros(5);
        });
    }),
    case("skeleton-invalid_white-space", |home| {
        lie(home, |batch| {
            let text = String::from_utf8(batch.events[0].skeleton.clone()).unwrap();
            replace(batch, text.replace(",\"seq\"", ", \"seq\"").as_bytes());
        });
    }),
    case("stray-file_notes", |home| {
        sound(home);
        fs::write(home.ledger().join("segments/notes.txt"), "Not ours.\n").unwrap();
    }),
    case("unanchored_nothing-remembered", |home| {
        sound(home);
        fs::remove_dir_all(home.folder.join("host")).unwrap();
    }),
    case("unreadable-event_line-overwritten", |home| {
        sound(home);
        home.spoil(".jsonl", |bytes| {
            let at = find(bytes, b"this is not JSON");
            bytes[at - 60..at].fill(b'#');
        });
    }),
    case("writer-missing_line-first", |home| {
        let (one, two) = sound(home);
        let mut three = TestFeed::new(3);
        three.append(&home.open(), &[line("u", 1)]).unwrap();
        home.remember(&[newest(&one), newest(&two), newest(&three)]);
    }),
];

/// Appends one more batch to the first feed of a sound ledger, spoiled before it is stored: backends believe.
fn lie(home: &Home, spoil: impl FnOnce(&mut Prepared)) {
    let (one, two) = sound(home);
    let mut batch = one.prepare(&[event(Kind::Line, "test", "lie", 9, b"{\"n\":1}")]);
    spoil(&mut batch);
    batch.apply(&home.open()).unwrap();
    home.remember(&[newest(&one), newest(&two)]);
}

/// Puts another skeleton in the place of the batch's only one, with all that follows from it.
fn replace(batch: &mut Prepared, skeleton: &[u8]) {
    let mut feed = TestFeed::new(1);
    let first = writer(&feed, "one");
    let before = [first, line("s", 0), line("s", 1), line("s", 2)];
    feed.frontier.extend(before.iter().map(|event| leaf(&event.skeleton)));
    let event = Event {
        address: Address::of(skeleton),
        skeleton: skeleton.to_vec(),
        payload: batch.events[0].payload.clone(),
    };
    assert!(String::from_utf8_lossy(skeleton).contains(&PayloadHash::of(&event.payload).to_string()));
    *batch = feed.prepare(&[event]);
}

fn key(number: u8) -> WriterKey {
    WriterKey::from_secret([number; 32])
}

fn frontier(leaves: &[&[u8]]) -> Frontier {
    let mut frontier = Frontier::default();
    frontier.extend(leaves.iter().map(|bytes| leaf(bytes)));
    frontier
}

/// A line with its checksum in front.
fn checked(covered: &str) -> String {
    format!("{{\"crc\":\"{:08x}\",{covered}\n", crc32fast::hash(covered.as_bytes()))
}

#[track_caller]
fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

/// Makes the checksum of the page around an offset fit.
fn seal_page(bytes: &mut [u8], at: usize) {
    let page = &mut bytes[at / 4096 * 4096..][..4096];
    let crc = crc32fast::hash(&page[..4092]);
    page[4092..].copy_from_slice(&crc.to_le_bytes());
}
