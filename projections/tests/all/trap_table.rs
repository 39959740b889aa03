//! Holds `docs/traps.md` to what it says: every trap names, for every source, tests that exist or why there is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const TRAPS: u32 = 29;
const SOURCES: [&str; 4] = ["claude-code", "codex", "opencode", "gemini-cli"];

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The names of all functions in the test folders of the crates that read and fold sessions, without those of support.
fn functions() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["projections/tests", "adapters/sources/tests", "cli/tests"] {
        files_below(&root.join(folder), &mut files);
    }
    // Beside the code, where a file changes while it is read: what is in there for tests alone.
    files.push(root.join("adapters/sources/src/faults.rs"));
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let found = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split_once('('));
        names.extend(found.map(|(name, _)| name.to_owned()));
    }
    names
}

#[test]
fn every_trap_has_a_test_or_a_reason() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/traps.md")).unwrap();
    let functions = functions();
    let mut named = BTreeSet::new();
    let mut sections = page.split("\n## ").skip(1);
    for number in 1..=TRAPS {
        let section = sections.next().unwrap();
        assert!(section.starts_with(&format!("{number}. ")), "{section}");
        for source in SOURCES {
            let line = section.lines().find_map(|line| line.strip_prefix(&format!("- {source}: ")));
            let line = line.unwrap_or_else(|| panic!("trap {number} says nothing of {source}"));
            if line.strip_prefix("none: ").is_some_and(|why| why.len() > 10) {
                continue;
            }
            let tests: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
            assert!(!tests.is_empty(), "trap {number}, {source}: neither a test nor a reason");
            for test in tests {
                assert!(functions.contains(test), "trap {number}, {source}: there is no test {test}");
                named.insert(test.to_owned());
            }
        }
    }
    let forgotten: Vec<_> =
        functions.iter().filter(|name| name.starts_with("trap_") && !named.contains(*name)).collect();
    assert_eq!(forgotten, Vec::<&String>::new(), "tests that docs/traps.md does not name");
}
