//! `cargo xtask tidy`: rules about the tree that no compiler knows. This module finds the files and asks `cargo metadata`;
//! the rules themselves are in `source` and `tree`.

mod lexer;
mod source;
mod tree;

use crate::output::say;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs;
use std::path::Path;

/// The most lines of a source file.
const FILE_LINES_MAX: usize = 800;
/// The most lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: String) -> Self {
        Self { path: path.to_owned(), line, message }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks the workspace that the current folder belongs to, and prints each finding.
pub(crate) fn run() -> Result<()> {
    let (findings, files) = check()?;
    for finding in &findings {
        say(finding)?;
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    say(format!("{files} files in order"))
}

/// Returns all findings, sorted, and the number of files looked at.
fn check() -> Result<(Vec<Finding>, usize)> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec().context("cargo metadata")?;
    let root = metadata.workspace_root.as_std_path();
    let mut findings = Vec::new();
    tree::check_members(&members(&metadata), &mut findings);
    let mut files = Vec::new();
    list_files(root, "", &mut files)?;
    tree::check_top_level(&files, &mut findings);
    let mut looked_at = 0;
    for path in &files {
        if !is_text_of_ours(path) {
            continue;
        }
        let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
        looked_at += 1;
        if ending(path) == "rs" {
            source::check_rust(path, &text, &mut findings);
        }
        // Test suites have made-up paths in their made-up sessions.
        if !path.split('/').any(|part| matches!(part, "tests" | "conformance")) {
            source::check_places(path, &text, &mut findings);
        }
    }
    let decisions: Vec<String> =
        files.iter().filter_map(|path| path.strip_prefix("docs/decisions/")).map(ToOwned::to_owned).collect();
    tree::check_decisions(&decisions, &mut findings);
    findings.sort();
    Ok((findings, looked_at))
}

fn members(metadata: &cargo_metadata::Metadata) -> Vec<tree::Member> {
    let packages = metadata.workspace_packages();
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    packages
        .iter()
        .map(|package| {
            let folder = package.manifest_path.parent().unwrap_or(&metadata.workspace_root);
            let folder = folder.strip_prefix(&metadata.workspace_root).unwrap_or(folder);
            let imports = package.dependencies.iter().map(|dependency| dependency.name.clone());
            let mut imports: Vec<String> = imports.filter(|name| names.contains(&name.as_str())).collect();
            imports.sort();
            imports.dedup();
            // A package names itself among its own tests to switch a feature on; that is no edge.
            imports.retain(|name| *name != package.name.as_str());
            tree::Member {
                name: package.name.to_string(),
                folder: folder.as_str().replace('\\', "/"),
                imports,
            }
        })
        .collect()
}

/// Whether the rules for text hold for a file. Fixtures and snapshots are data.
fn is_text_of_ours(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let known = matches!(ending(name), "rs" | "md" | "toml" | "sh" | "yml" | "yaml");
    let data = path.starts_with("fixtures/") && name != "README.md";
    (known || path.starts_with(".ci/")) && !data
}

/// The part of a name behind its last dot.
fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}

/// Lists the files below `folder` relative to `root`, sorted, without build output and version control.
fn list_files(root: &Path, folder: &str, files: &mut Vec<String>) -> Result<()> {
    let path = root.join(folder);
    let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
    let mut names = entries
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?.is_dir()))
        })
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    for (name, is_folder) in names {
        let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        match (is_folder, name.as_str()) {
            (true, "target" | ".git") => {}
            (true, _) => list_files(root, &below, files)?,
            (false, _) => files.push(below),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_very_tree_can_be_checked() {
        let (_, files) = super::check().unwrap();
        assert!(files > 10, "only {files} files were looked at");
    }

    #[test]
    fn fixtures_are_data_but_their_readme_is_text() {
        assert!(!super::is_text_of_ours("fixtures/sessions/x/a.md"));
        assert!(super::is_text_of_ours("fixtures/README.md"));
        assert!(super::is_text_of_ours(".ci/run"));
        assert!(!super::is_text_of_ours("cli/tests/snapshots/a.snap"));
    }
}
