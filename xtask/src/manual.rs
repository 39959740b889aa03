//! Whether the table of commands in the README names the commands that the program has: all of them and no other.

use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// Compares the table of `readme` with what `burnlog --help` printed.
pub(crate) fn check(readme: &str, help: &str) -> Result<()> {
    let (told, real) = (told_commands(readme), real_commands(help));
    ensure!(!real.is_empty(), "burnlog --help lists no commands");
    let untold: Vec<&str> = real.difference(&told).copied().collect();
    let gone: Vec<&str> = told.difference(&real).copied().collect();
    ensure!(untold.is_empty(), "README.md: the table of commands lacks {}", untold.join(", "));
    ensure!(
        gone.is_empty(),
        "README.md: the table of commands names {}, which do not exist",
        gone.join(", ")
    );
    Ok(())
}

/// The first words of the code spans in the first column of the table under `| command |`.
fn told_commands(readme: &str) -> BTreeSet<&str> {
    let table = readme.lines().skip_while(|line| !line.starts_with("| command |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let cell = row.trim_start_matches('|');
        // A bar inside code is escaped; the first bare one ends the cell.
        let end = cell.match_indices('|').find(|(at, _)| !cell[..*at].ends_with('\\'));
        end.map(|(at, _)| &cell[..at])
    })
    .flat_map(|cell| cell.split('`').skip(1).step_by(2))
    .filter_map(|code| code.split_whitespace().next())
    .collect()
}

/// The names under `Commands:`, without `help`.
fn real_commands(help: &str) -> BTreeSet<&str> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = list.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  "));
    names
        .filter(|line| !line.starts_with("    "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::check;

    const README: &str = "# x\n\n| command | what |\n|---|---|\n| `ingest [--durability a\\|b]` | reads `nothing` |\n\
                          | `sessions`, `turns` | lists |\n| `project status\\|dump` | rows |\n\n| other | table |\n";
    const HELP: &str = "About.\n\nCommands:\n  ingest    Reads\n              more\n  sessions  Lists\n  turns     Lists\n  \
                        project   Rows\n  help      Print\n\nOptions:\n  -h, --help\n";

    #[test]
    fn a_readme_that_names_every_command_passes() {
        check(README, HELP).unwrap();
    }

    #[test]
    fn a_missing_and_a_made_up_command_are_found() {
        let fewer = README.replace(", `turns`", "");
        assert!(check(&fewer, HELP).unwrap_err().to_string().contains("lacks turns"));
        let more = README.replace("`sessions`", "`sessions`, `dance`");
        assert!(check(&more, HELP).unwrap_err().to_string().contains("names dance"));
        assert!(check(README, "no list").is_err());
    }
}
