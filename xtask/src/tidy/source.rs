//! The rules for one file: its size, its header, its functions, and the words and paths that must not stand in it.
//! Sees text alone; touches no disk.

use super::lexer::code_only;
use super::{FILE_LINES_MAX, FUNCTION_LINES_MAX, Finding};

/// Endings that say nothing about what a type is.
const EMPTY_ENDINGS: [&str; 7] = ["Manager", "Helper", "Handler", "Util", "Utils", "Data", "Info"];
/// What must never be committed: unfinished code, and tests that do not run.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Folders of made-up people and projects, as they stand in the fixtures and in examples of output.
const MADE_UP: [&str; 4] =
    ["/home/dev", concat!("/wo", "rk/demo"), concat!("/wo", "rk/old"), concat!("/wo", "rk/odd names")];

/// Checks Rust source.
pub(crate) fn check_rust(path: &str, source: &str, findings: &mut Vec<Finding>) {
    let code = code_only(source);
    let lines = source.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(Finding::new(
            path,
            1,
            format!("{lines} lines, at most {FILE_LINES_MAX}: split the file"),
        ));
    }
    let first = source.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        findings.push(Finding::new(path, 1, "no `//!` header: say what the module holds".to_owned()));
    }
    for (number, line) in code.lines().enumerate() {
        for word in UNFINISHED {
            if find_word(line, word).is_some() {
                findings.push(Finding::new(path, number + 1, format!("`{word}` must not be committed")));
            }
        }
    }
    check_type_names(path, &code, findings);
    check_functions(path, &code, findings);
}

/// Checks any text file for places that exist on one machine alone. Of Rust source, test modules are exempt.
pub(crate) fn check_places(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let rust = super::ending(path) == "rs";
    let code = if rust { code_only(text) } else { String::new() };
    let tests_from = code.lines().position(|line| line.trim_start().starts_with("#[cfg(test)]"));
    for (number, line) in text.lines().take(tests_from.unwrap_or(usize::MAX)).enumerate() {
        let line = MADE_UP.iter().fold(line.to_owned(), |line, name| line.replace(name, "made-up"));
        if let Some(place) = private_place(&line) {
            let message =
                format!("`{place}` is a path of one machine; name things relative to the repository");
            findings.push(Finding::new(path, number + 1, message));
        }
    }
}

/// Finds a path that names a machine's own folders.
fn private_place(line: &str) -> Option<&'static str> {
    let starts_path = |at: usize| {
        line[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || "\"'`(=<[:,".contains(c))
    };
    let ends_name = |at: usize| {
        line[at..].chars().next().is_none_or(|c| !(c.is_ascii_alphanumeric() || "_-.{".contains(c)))
    };
    // These names are written apart, so that the rule does not find itself.
    for name in [concat!("/wo", "rk"), concat!("/ro", "ot")] {
        let mut hits = line.match_indices(name);
        if hits.any(|(at, _)| starts_path(at) && ends_name(at + name.len())) {
            return Some(name);
        }
    }
    let mut homes = line.match_indices("/home/");
    if homes.any(|(at, found)| {
        let next = line[at + found.len()..].chars().next();
        starts_path(at) && next.is_some_and(|c| c.is_ascii_alphanumeric())
    }) {
        return Some("/home/…");
    }
    let folder = concat!("corp", "us/");
    let mut folders = line.match_indices(folder);
    let hit = folders.any(|(at, _)| line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric()));
    hit.then_some(folder)
}

/// Finds `word` in `line` where it does not continue a name.
fn find_word(line: &str, word: &str) -> Option<usize> {
    line.match_indices(word)
        .map(|(at, _)| at)
        .find(|at| line[..*at].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_')))
}

fn check_type_names(path: &str, code: &str, findings: &mut Vec<Finding>) {
    for (number, line) in code.lines().enumerate() {
        for keyword in ["struct ", "enum ", "trait ", "type ", "union "] {
            let Some(at) = find_word(line, keyword) else { continue };
            let name: String = line[at + keyword.len()..]
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if let Some(ending) = EMPTY_ENDINGS.iter().find(|ending| name.ends_with(**ending)) {
                let message = format!("type `{name}`: `{ending}` says nothing; name what it is");
                findings.push(Finding::new(path, number + 1, message));
            }
        }
    }
}

fn check_functions(path: &str, code: &str, findings: &mut Vec<Finding>) {
    for function in functions(code) {
        if function.lines > FUNCTION_LINES_MAX {
            let Function { name, line, lines } = function;
            let message = format!("function `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
            findings.push(Finding::new(path, line, message));
        }
    }
}

/// A function with a body: its name, first line and length.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Lists the functions of blanked-out code.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = code[at + 3..].trim_start();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let body = body_of(&code[at..]);
        if let (false, Some(body)) = (name.is_empty(), body) {
            let line = code[..at].matches('\n').count() + 1;
            found.push(Function { name, line, lines: code[at..at + body].matches('\n').count() + 1 });
        }
    }
    found
}

/// The length of a function up to the end of its body; `None` where it has none.
fn body_of(code: &str) -> Option<usize> {
    let (mut round, mut curly) = (0i32, 0i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            '{' => curly += 1,
            '}' => {
                curly -= 1;
                if curly == 0 && round == 0 {
                    return Some(at + 1);
                }
            }
            ';' if curly == 0 && round == 0 => return None,
            _ => {}
        }
        if round < 0 || curly < 0 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(source: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check_rust("a.rs", source, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    fn places(path: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        check_places(path, text, &mut findings);
        findings.len()
    }

    #[test]
    fn a_good_file_has_no_findings() {
        let source =
            "//! Holds a thing.\n\nfn f() -> [u8; 2] {\n    let s = \"todo!() {\"; // dbg!\n    [1, 2]\n}\n";
        assert_eq!(rust(source), Vec::<String>::new());
        assert_eq!(rust("#![allow(missing_docs)]\n//! Holds tests.\n"), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_is_found() {
        let source = format!("//! x\n{}", "\n".repeat(FILE_LINES_MAX));
        assert_eq!(rust(&source), [format!("a.rs:1: 801 lines, at most {FILE_LINES_MAX}: split the file")]);
    }

    #[test]
    fn a_missing_header_is_found() {
        assert!(rust("use std::fmt;\n")[0].contains("no `//!` header"));
        assert!(rust("// not a header\n")[0].contains("no `//!` header"));
        assert!(rust("")[0].contains("no `//!` header"));
    }

    #[test]
    fn a_long_function_is_found_and_its_neighbours_are_not() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
        let source = format!(
            "//! x\nfn short() {{}}\nfn long<'a>(a: &'a [u8; 3])\nwhere\n{{\n{body}}}\nfn after() {{}}\n"
        );
        let found = rust(&source);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("a.rs:3: function `long` has"), "{found:?}");
    }

    #[test]
    fn functions_without_a_body_and_function_types_are_not_functions() {
        let code = "trait T { fn a(&self) -> [u8; 2]; fn b(&self) { x(); } }\ntype F = fn (u8);\nstruct S { f: fn(u8) }";
        let names: Vec<_> = functions(code).into_iter().map(|function| function.name).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn unfinished_code_is_found() {
        for bad in ["todo!()", "unimplemented!(\"x\")", "dbg!(x)", "#[ignore]", "#[ignore = \"slow\"]"] {
            let source = format!("//! x\nfn f() {{\n    {bad};\n}}\n");
            assert_eq!(rust(&source).len(), 1, "{bad}");
        }
        assert_eq!(rust("//! x\nfn f() { my_todo!(); }\n"), Vec::<String>::new());
    }

    #[test]
    fn type_names_that_say_nothing_are_found() {
        for bad in ["struct LedgerManager;", "pub enum FeedInfo {}", "trait Handler {}", "type RowData = u8;"]
        {
            assert_eq!(rust(&format!("//! x\n{bad}\n")).len(), 1, "{bad}");
        }
        for good in ["struct Metadata;", "struct Information;", "enum Datagram {}", "fn f(x: FileData) {}"] {
            assert_eq!(rust(&format!("//! x\n{good}\n")), Vec::<String>::new(), "{good}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for bad in [
            "see /work/main",
            "`/root/.cache`",
            "let p = \"/home/kim/x\";",
            "cd /work",
            "file:/root",
            concat!("read corp", "us/a.jsonl"),
        ] {
            assert_eq!(places("a.md", bad), 1, "{bad}");
            assert_eq!(places("a.rs", &format!("//! {bad}")), 1, "{bad}");
        }
        for good in [
            "/workspace",
            "/v1/root",
            "network/work",
            "/home/",
            "/home/<user>",
            "a/home/kim",
            "/rooted",
            "/work/demo/a",
            "/home/dev",
        ] {
            assert_eq!(places("a.md", good), 0, "{good}");
        }
        assert_eq!(places("a.rs", "//! x\n#[cfg(test)]\nmod tests { const P: &str = \"/home/kim\"; }"), 0);
    }
}
