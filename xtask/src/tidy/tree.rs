//! The rules for the tree: which package may import which, how packages and decisions are named. Pure functions over
//! names and relative paths.

use super::Finding;

/// A package of the workspace: its name, its folder, and the names of those it imports.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative to the root, with `/`.
    pub(crate) folder: String,
    /// Imports of other members, in every section of the manifest.
    pub(crate) imports: Vec<String>,
}

/// The layer of a folder: a package imports from lower layers alone. `None` for a folder that the tree has no place for.
fn layer(folder: &str) -> Option<u32> {
    match folder.split('/').collect::<Vec<_>>()[..] {
        ["log"] => Some(0),
        ["projections"] => Some(1),
        ["adapters", _] => Some(2),
        ["cli"] => Some(3),
        _ => None,
    }
}

/// Checks names and imports: log <- projections <- adapters <- cli, and nothing else.
pub(crate) fn check_members(members: &[Member], findings: &mut Vec<Finding>) {
    for member in members {
        let manifest = format!("{}/Cargo.toml", member.folder);
        let mut find = |message: String| findings.push(Finding::new(&manifest, 1, message));
        if member.folder == "xtask" {
            if let Some(import) = member.imports.first() {
                find(format!(
                    "`xtask` imports `{import}`; it checks the others and shares no code with them"
                ));
            }
            continue;
        }
        let last = member.folder.rsplit('/').next().unwrap_or_default();
        if member.name != format!("burnlog-{last}") {
            find(format!("folder `{last}` holds package `{}`; it must be `burnlog-{last}`", member.name));
        }
        let Some(own) = layer(&member.folder) else {
            find(format!(
                "`{}` has no place in the tree: log, projections, adapters/<name>, cli",
                member.folder
            ));
            continue;
        };
        for import in &member.imports {
            let Some(target) = members.iter().find(|other| other.name == *import) else { continue };
            let wire_types = member.folder == "adapters/server" && target.folder == "adapters/http";
            if !wire_types && layer(&target.folder).is_none_or(|layer| layer >= own) {
                find(format!(
                    "`{}` imports `{import}`; imports go log <- projections <- adapters <- cli, and adapters never \
                     import each other",
                    member.name
                ));
            }
        }
    }
}

/// The folders that the tree has; a test or a run that leaves one of its own behind is found out.
const TOP_FOLDERS: [&str; 9] =
    [".cargo", ".ci", "adapters", "cli", "docs", "fixtures", "log", "projections", "xtask"];

/// Checks that every file lies in a folder that the tree has, or at its top.
pub(crate) fn check_top_level(files: &[String], findings: &mut Vec<Finding>) {
    let mut told: Vec<&str> = Vec::new();
    for file in files {
        let Some((folder, _)) = file.split_once('/') else { continue };
        if !TOP_FOLDERS.contains(&folder) && !told.contains(&folder) {
            told.push(folder);
            let message =
                format!("`{folder}/` has no place in the tree; remove it, or name it in the tidy check");
            findings.push(Finding::new(file, 1, message));
        }
    }
}

/// Checks that decisions are numbered from 0001 without gaps or repeats.
pub(crate) fn check_decisions(names: &[String], findings: &mut Vec<Finding>) {
    let mut names: Vec<&String> = names.iter().filter(|name| *name != "README.md").collect();
    names.sort();
    for (position, name) in names.iter().enumerate() {
        let expected = format!("{:04}-", position + 1);
        let title = name.strip_prefix(&expected).and_then(|rest| rest.strip_suffix(".md"));
        let spelled = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !title.is_some_and(|title| !title.is_empty() && title.chars().all(spelled)) {
            let message = format!("the decision in this place is named `{expected}<title-in-lower-case>.md`");
            findings.push(Finding::new(&format!("docs/decisions/{name}"), 1, message));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(folder: &str, imports: &[&str]) -> Member {
        let name = format!("burnlog-{}", folder.rsplit('/').next().unwrap());
        Member { name, folder: folder.to_owned(), imports: imports.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_folder_that_somebody_left_behind_is_named_once() {
        let files = ["README.md", "log/src/lib.rs", "left/ledger.json", "left/lock"].map(str::to_owned);
        let mut findings = Vec::new();
        check_top_level(&files, &mut findings);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("`left/`"));
    }

    fn tree() -> Vec<Member> {
        vec![
            member("log", &[]),
            member("projections", &["burnlog-log"]),
            member("adapters/jsonl", &["burnlog-log"]),
            member("adapters/sqlite", &["burnlog-log", "burnlog-projections"]),
            member("adapters/http", &["burnlog-log"]),
            member("adapters/server", &["burnlog-log", "burnlog-http"]),
            member("cli", &["burnlog-log", "burnlog-projections", "burnlog-jsonl", "burnlog-server"]),
        ]
    }

    fn findings(members: &[Member]) -> Vec<String> {
        let mut findings = Vec::new();
        check_members(members, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_tree_as_designed_has_no_findings() {
        assert_eq!(findings(&tree()), Vec::<String>::new());
    }

    #[test]
    fn every_other_edge_is_found() {
        for (folder, import) in [
            ("log", "burnlog-projections"),
            ("log", "burnlog-jsonl"),
            ("projections", "burnlog-sqlite"),
            ("projections", "burnlog-cli"),
            ("adapters/jsonl", "burnlog-sqlite"),
            ("adapters/sqlite", "burnlog-jsonl"),
            ("adapters/http", "burnlog-server"),
            ("adapters/server", "burnlog-jsonl"),
            ("adapters/jsonl", "burnlog-cli"),
        ] {
            let mut members = tree();
            members
                .iter_mut()
                .find(|member| member.folder == folder)
                .unwrap()
                .imports
                .push(import.to_owned());
            let found = findings(&members);
            assert_eq!(found.len(), 1, "{folder} -> {import}: {found:?}");
            assert!(found[0].contains(import), "{found:?}");
        }
    }

    #[test]
    fn names_and_places_are_checked() {
        let mut members = tree();
        members[2].name = "jsonl".to_owned();
        assert_eq!(findings(&members).len(), 1);
        assert_eq!(findings(&[member("common", &[])]).len(), 1);
        assert_eq!(findings(&[member("adapters/deep/er", &[])]).len(), 1);
        let xtask = Member { name: "xtask".to_owned(), ..member("xtask", &["burnlog-log"]) };
        assert_eq!(findings(&[xtask]).len(), 1);
    }

    #[test]
    fn decisions_are_numbered_without_gaps() {
        let check = |names: &[&str]| {
            let mut findings = Vec::new();
            check_decisions(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), &mut findings);
            findings.len()
        };
        assert_eq!(check(&["README.md", "0002-b.md", "0001-a-b.md"]), 0);
        for bad in [
            &["0001-a.md", "0003-c.md"][..],
            &["0001-a.md", "0001-b.md"],
            &["0000-a.md"],
            &["notes.md"],
            &["0001-.md"],
            &["0001-A Title.md"],
            &["0001-a.txt"],
        ] {
            assert_eq!(check(bad), 1, "{bad:?}");
        }
    }
}
