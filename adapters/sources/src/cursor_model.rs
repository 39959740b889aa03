//! A cursor file beside a map in memory: whatever lies in the base and whatever behind it, both answer the same.

use crate::below::is_below;
use crate::cursor::{Cursor, FeedPoint};
use crate::cursor_file::CursorFile;
use crate::source::Shape;
use burnlog_log::{Root, WriterId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FOLDERS: [&str; 6] = ["/a", "/a/b", "/a/b-c", "/a/b.c", "/a/bc", "/z/long folder"];
const ROOTS: [&str; 11] =
    ["/a", "/a//b", "/a/./b", "/a/b", "/a/b/", "/", "", "/z", "/a/b/3", "/a/b/3.jsonl", "/nowhere"];

#[derive(Debug, Clone)]
enum Step {
    /// Path, stream, size of the feed, bytes that do not compress.
    Save(Vec<(usize, u64, u64, usize)>),
    Settle,
    Reopen,
    InvalidateAfter(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let cursor = (0..60usize, 0..12u64, 0..100u64, prop_oneof![Just(0), 0..6000usize]);
    prop_oneof![
        6 => prop::collection::vec(cursor, 1..30).prop_map(Step::Save),
        3 => Just(Step::Settle),
        3 => Just(Step::Reopen),
        1 => (20..100u64).prop_map(Step::InvalidateAfter),
        1 => Just(Step::Clear),
    ]
}

fn path(number: usize) -> PathBuf {
    Path::new(FOLDERS[number % FOLDERS.len()]).join(format!("{}.jsonl", number / FOLDERS.len()))
}

/// A cursor; of the stream 0 nothing was seen.
fn cursor(stream: u64, size: u64, bytes: usize) -> Cursor {
    let source = if stream.is_multiple_of(2) { "codex" } else { "claude-code" };
    let mut cursor = Cursor::new(source, format!("stream {stream}"), Shape::Lines);
    let mut text = vec![0; bytes];
    blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut text);
    if stream > 0 {
        cursor.set_pending(bytes as u64, &text);
        cursor.seen = stream;
    }
    cursor.point = FeedPoint { size, root: Root([size as u8; 32]) };
    cursor
}

type Model = BTreeMap<PathBuf, Cursor>;

fn check(file: &CursorFile, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(file.damage(), None);
    prop_assert_eq!((file.len(), file.is_empty()), (model.len(), model.is_empty()));
    for path in (0..66).map(path) {
        let found = file.get(&path);
        prop_assert_eq!(found.as_ref(), model.get(&path), "{:?}", path);
    }
    let heads: BTreeMap<&Path, u64> = file.heads().map(|(path, head)| (path, head.point().size)).collect();
    let expected = model.iter().map(|(path, cursor)| (path.as_path(), cursor.point.size)).collect();
    prop_assert_eq!(heads, expected);
    for root in ROOTS.map(Path::new) {
        let mut below: Vec<&Path> = file.paths_below(root).collect();
        below.sort_unstable();
        let expected: Vec<&Path> =
            model.keys().map(PathBuf::as_path).filter(|path| is_below(path, root)).collect();
        prop_assert_eq!(below, expected, "{:?}", root);
    }
    for (path, stream) in (0..24).map(|number| (path(number), format!("stream {}", number % 12))) {
        let is_other = |(other, cursor): (&PathBuf, &Cursor)| {
            *other != path && cursor.source == "codex" && cursor.stream == stream && !cursor.is_blank()
        };
        // Where it says so no other file has the stream; it may say no where none has.
        prop_assert!(!file.is_only_file_of("codex", &stream, &path) || !model.iter().any(is_other));
    }
    let largest = model.values().map(|cursor| cursor.point.size).max();
    prop_assert!(file.newest().map(|point| point.size) >= largest);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_cursor_file_answers_as_a_map_does(
        steps in prop::collection::vec(step(), 1..24),
        loose_bytes_min in prop_oneof![Just(0), 0..100_000usize],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let file = CursorFile::open(folder.path().join("cursors"), WriterId([1; 32])).unwrap();
            file.with_loose_bytes_min(loose_bytes_min)
        };
        let (mut file, mut model) = (open(), Model::new());
        for step in steps {
            match step {
                Step::Save(cursors) => {
                    let cursors: Vec<_> = cursors
                        .into_iter()
                        .map(|(number, stream, size, bytes)| (path(number), cursor(stream, size, bytes)))
                        .collect();
                    file.save(cursors.iter().cloned()).unwrap();
                    model.extend(cursors);
                }
                Step::Settle => file.settle().unwrap(),
                Step::Reopen => file = open(),
                Step::InvalidateAfter(size) => {
                    let before = model.len();
                    model.retain(|_, cursor| cursor.point.size <= size);
                    prop_assert_eq!(file.invalidate_after(size).unwrap(), before - model.len());
                }
                Step::Clear => {
                    file.clear().unwrap();
                    model.clear();
                }
            }
            check(&file, &model)?;
        }
    }

    /// What lies in the base alone is told without a look at all cursors, which is what the base has prints for.
    #[test]
    fn a_stream_of_one_file_in_the_base_is_told_to_be_that(files in 1..60usize) {
        let folder = tempfile::tempdir().unwrap();
        let file = CursorFile::open(folder.path().join("cursors"), WriterId([1; 32])).unwrap();
        let mut file = file.with_loose_bytes_min(0);
        file.save((0..files).map(|number| (path(number), cursor(number as u64 * 2 + 2, 7, 500)))).unwrap();
        file.settle().unwrap();
        for number in 0..files {
            let stream = format!("stream {}", number * 2 + 2);
            prop_assert!(file.is_only_file_of("codex", &stream, &path(number)));
            prop_assert!(!file.is_only_file_of("codex", &stream, Path::new("/elsewhere")));
            prop_assert!(file.is_only_file_of("claude-code", &stream, &path(number)));
        }
        prop_assert!(file.is_only_file_of("codex", "another", Path::new("/elsewhere")));
    }
}
