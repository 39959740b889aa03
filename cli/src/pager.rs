//! Where long text for people goes: through a pager when standard output is a terminal, else straight there. Knows what
//! a terminal wants (colours or none), not what is printed.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

/// The pager where none is named.
const DEFAULT: &str = "less -R";
/// What `less` does unless it is told otherwise: colours, and no waiting where all fits on the screen.
const LESS: &str = "FRX";

/// Standard output, or a pager before it.
pub(crate) enum Pager {
    /// Straight.
    Straight(BufWriter<io::Stdout>),
    /// Through a program, which ends when it is dropped or finished.
    Program(BufWriter<std::process::ChildStdin>, Child),
}

/// Whether output for people is coloured: on a terminal, unless `NO_COLOR` is set.
pub(crate) fn wants_colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Pager {
    /// Opens the pager of `PAGER` when standard output is a terminal. One that does not start is done without.
    pub(crate) fn open() -> Self {
        let named = std::env::var("PAGER").ok();
        let program = named.as_deref().map_or(DEFAULT, str::trim);
        if !io::stdout().is_terminal() || matches!(program, "" | "cat") {
            return Self::straight();
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(program).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", LESS);
        }
        match command.spawn().map(|mut child| (child.stdin.take(), child)) {
            Ok((Some(stdin), child)) => Self::Program(BufWriter::new(stdin), child),
            _ => Self::straight(),
        }
    }

    /// Standard output as it is.
    pub(crate) fn straight() -> Self {
        Self::Straight(BufWriter::with_capacity(1 << 16, io::stdout()))
    }

    /// Writes what is left, and waits until the person has read it.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Straight(mut out) => out.flush(),
            Self::Program(mut out, mut child) => {
                let flushed = out.flush();
                drop(out);
                child.wait()?;
                flushed
            }
        }
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Straight(out) => out.write(bytes),
            Self::Program(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Straight(out) => out.flush(),
            Self::Program(out, _) => out.flush(),
        }
    }
}
