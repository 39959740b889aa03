//! The arguments of the commands for hosts that go away: `push`, `run`, `hook`.

use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Brings what another ledger lacks of this one to it, and remembers how far it came.
///
/// A second push looks only at what moved since. Stopping at any moment is safe. The other ledger's projections are left to
/// whoever reads there: `burnlog project update --store URL` folds what came in.
#[derive(Debug, Clone, Args)]
pub(crate) struct Push {
    /// The ledger to push to; made if it does not exist. Without it RELAYBURN_PUSH_URL, else `push_to` in host/config.json.
    #[arg(long, value_name = "URL")]
    pub(crate) to: Option<String>,
    /// Compares every feed, also those that did not move since the last push.
    #[arg(long)]
    pub(crate) recheck: bool,
    /// How long to wait for another push from the same ledger.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u64,
}

/// Runs an agent, ingests what it writes while it runs, and pushes at its end.
///
/// Everything between the agent and its terminal stays as it is, its exit code is that of this command (128 + n after signal n),
/// and whatever fails here fails nothing of the agent's: it is said in one line on standard error. SIGINT, SIGTERM, SIGHUP and
/// SIGQUIT that another process sends go on to the agent; those of the terminal reach it anyway. What it touched is closed when it
/// has ended. When the other ledger is away the local one keeps everything for a later `burnlog push`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: those of the agent; 126 when it cannot be executed, 127 when it is not found."
)]
pub(crate) struct Run {
    /// The ledger to push to at the end. Without it RELAYBURN_PUSH_URL, else `push_to` in host/config.json, else nothing is pushed.
    #[arg(long, value_name = "URL")]
    pub(crate) to: Option<String>,
    /// How long the push may take; what is not pushed then waits in the local ledger.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) push_timeout: u64,
    /// A folder taken as a home, as one source's own folder, or one file; instead of the real home. May be repeated.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Vec<PathBuf>,
    /// Reads only this source: claude-code, codex, opencode, gemini-cli …. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Vec<String>,
    /// Takes in only projects whose folder matches this glob. May be repeated.
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Leaves out projects whose folder matches this glob. May be repeated.
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// How long to wait for another ingest into the same ledger.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u64,
    /// The agent and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Hook {
    /// Writes hooks into the agent's settings and leaves everything else there as it is. A second time changes nothing.
    ///
    /// When the agent stops, its session is ingested; when the session ends, it is closed as well. Where that fails the agent
    /// never hears of it: `burnlog status` tells. The hook stores where the environment of the agent says.
    Install(HookSettings),
    /// Takes away what install wrote, and nothing else.
    Uninstall(HookSettings),
    /// What the hooks run: reads the event from standard input. Ends with 0 whatever happens.
    Event {
        /// The agent.
        #[arg(value_enum)]
        agent: HookedAgent,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HookSettings {
    /// The agent.
    #[arg(value_enum)]
    pub(crate) agent: HookedAgent,
    /// The settings [default: settings.json in CLAUDE_CONFIG_DIR or ~/.claude].
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// Prints the settings as they would be and writes nothing.
    #[arg(long)]
    pub(crate) print: bool,
}

/// An agent that has hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HookedAgent {
    /// Claude Code: the events Stop and SessionEnd.
    ClaudeCode,
}
