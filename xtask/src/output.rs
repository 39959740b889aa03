//! How the developer commands print: whole lines to standard output, nothing else.

use anyhow::Result;
use std::fmt::Display;
use std::io::Write;

/// Prints one line.
pub(crate) fn say(line: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
