//! The command line. The doc comments here are the manual that `--help` prints.

mod hosts;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use hosts::{Hook, HookSettings, HookedAgent, Push, Run};
use std::path::PathBuf;

/// The archive for coding-agent sessions: every raw record kept once, whatever the agent deletes later.
///
/// burnlog reads the session files of coding agents, stores each record as a content-addressed event in a ledger, and
/// folds everything else (turns, sessions, totals) from that ledger. Data goes to standard output, everything else to
/// standard error.
#[derive(Debug, Parser)]
#[command(name = "burnlog", version, max_term_width = 110, after_help = ENVIRONMENT, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const ENVIRONMENT: &str = "\
Environment:
  RELAYBURN_HOME         where the default ledger and this host's state are [default: ~/.relayburn]
  RELAYBURN_STORAGE      which backend keeps the ledger: file, redb, sqlite, postgres, http [default: file]
  RELAYBURN_REDB_PATH    where the redb ledger is [default: ledger.redb in RELAYBURN_HOME]
  RELAYBURN_SQLITE_PATH  where the SQLite ledger is [default: ledger.sqlite in RELAYBURN_HOME]
  RELAYBURN_POSTGRES_URL where the Postgres ledger is: postgres://USER@HOST/DATABASE[?ledger=NAME]
  RELAYBURN_HTTP_URL     where the server is: https://HOST[:PORT][/v1/ledgers/NAME]
  RELAYBURN_HTTP_TOKEN   the token for it; RELAYBURN_HTTP_TOKEN_FILE names a file that holds one
  RELAYBURN_HTTP_CA_FILE certificates (PEM) to trust instead of the system's
  RELAYBURN_HTTP_PLAIN   allow: the token may travel over http:// to another machine
  RELAYBURN_PUSH_URL     the ledger that push and run push to [default: push_to in host/config.json]
  RELAYBURN_HOST_NAME    the label of this host [default: the host name]
  RELAYBURN_WRITER_KEY   the writer key of this one process, 64 hex digits [default: a key file made on first use]
  CLAUDE_CONFIG_DIR      where Claude Code keeps its sessions; several with commas [default: ~/.claude]
  CODEX_HOME             where Codex keeps its sessions [default: ~/.codex]
  XDG_DATA_HOME          the folder of OpenCode's `opencode/` [default: ~/.local/share]
  OPENCODE_DB            an OpenCode database elsewhere
  GEMINI_CLI_HOME        the folder of Gemini CLI's `.gemini` [default: the home folder]
  NO_COLOR               no colours when set
  COLUMNS                the width of tables [default: that of the terminal]
  PAGER                  what long output on a terminal goes through [default: less -R]

Exit codes: 0 done; 1 checked and found wanting (damage, roots that differ, files that could not be read); 2 not or only partly done.";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The ledger: file:DIR, redb:PATH, sqlite:PATH, postgres://…[?ledger=NAME] or https://…. Goes before RELAYBURN_STORAGE.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// Prints JSON: one object, or one line for each row of a list.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Prints comma-separated values, with a header line; for lists only.
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Prints nothing but data and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Shows times in this zone: local, an offset like +05:30, or a name like Europe/Berlin. JSON, CSV, days and filters stay
    /// in UTC.
    #[arg(long, global = true, value_name = "ZONE", allow_hyphen_values = true)]
    pub(crate) tz: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Reads session files and stores what is new.
    Ingest(Ingest),
    /// Shows the ledger, its feeds, its projections, and what waits to be ingested.
    Status,
    /// Lists sessions, newest first.
    Sessions(Filter),
    /// Lists API calls with their tokens, in the order of time.
    Turns(Filter),
    /// Sums calls, tokens and costs; every call once, however many sessions and hosts have it.
    Usage(Usage),
    /// Shows a session as a person reads it: prompts, answers, tools, subagents, in order.
    Show(Show),
    /// Lists the blocks of conversations: texts, thoughts, tool uses and results, with their places in the log.
    ///
    /// The filters choose sessions; the limit counts blocks.
    Content(Content),
    /// Lists how sessions and subagents hang together: forks, continuations, copies, subagents.
    ///
    /// The filters choose sessions: at least one end of a relationship is in one of them.
    Relationships(Relationships),
    /// Lists what contradicts itself under one identity; every form is kept.
    ///
    /// The filters choose sessions: all forms are shown of what one of them names. The limit counts forms.
    Conflicts(Conflicts),
    /// Attaches keys and values to a session, stream or call.
    Stamp(Stamp),
    /// Writes rows for other programs.
    ///
    /// The filters are those of the lists for the tables of that name, for calls those of turns, for usage_daily those of usage: the
    /// rows are the sums of the calls that they choose. Of other tables all rows of the sessions are written that they choose; of
    /// stamps those that reach one of them (on itself, a file of it or a call in it), of feeds those that recorded one.
    Export(Export),
    /// Finds words in what was said, thought, asked of tools and given back by them.
    Search(Search),
    /// Shows how many records of each type and version were understood.
    ///
    /// A record knows its source, and neither model nor host nor tags: the other filters choose sessions, as `sessions` does, and all
    /// records of their files are counted. So the counts add up to what `export --table records` writes with the same filters. Records
    /// of no session count only where nothing but --source is asked for. The limit counts rows.
    Diagnostics(Filter),
    /// Maintains the rows that are folded from the ledger.
    #[command(subcommand)]
    Project(Project),
    /// Copies what another ledger lacks; cost follows the difference.
    Replay(Replay),
    /// Brings what another ledger lacks of this one to it, and remembers how far it came.
    Push(Push),
    /// Runs an agent, ingests what it writes while it runs, and pushes at its end.
    Run(Run),
    /// Lets an agent tell when it stops and when a session ends, so that each is ingested at once.
    #[command(subcommand)]
    Hook(Hook),
    /// Recomputes every hash, root and signature of the ledger and names what does not fit.
    Verify,
    /// Writes the files of a session as they were.
    Restore(Restore),
    /// Makes records unreadable for ever, and folds the rows without them.
    ///
    /// API calls that only these records tell of leave the totals; what it would take away is said before --yes does it.
    Erase(Erase),
    /// Seals, compresses and merges; removes the bytes of erased payloads.
    Compact,
    /// Serves ledgers over HTTP, for hosts that keep none of their own.
    Serve(Serve),
    /// Makes, lists and revokes the tokens of a server.
    #[command(subcommand)]
    Token(Token),
    /// Prints the completion script of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags that do not depend on each other")]
pub(crate) struct Ingest {
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
    /// Says what would be read and stores nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Closes every stream: an unfinished last record is stored as it is, and what made up each file is written down.
    #[arg(long = "final")]
    pub(crate) close: bool,
    /// Goes on: reads what changes, as soon as it changes, until it is stopped. Nothing is lost by stopping.
    #[arg(long, conflicts_with_all = ["dry_run", "close"])]
    pub(crate) watch: bool,
    /// Compares the bytes of all files, also of those whose size and times did not change.
    #[arg(long)]
    pub(crate) recheck: bool,
    /// How long to wait for another ingest into the same ledger.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u64,
    /// When a batch counts as stored.
    #[arg(long, value_enum, default_value_t = Durability::Batch)]
    pub(crate) durability: Durability,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// After its fsync.
    Batch,
    /// After its write; one fsync at the end. A crash of the system may lose batches, never half of one.
    Os,
}

/// Which rows a list shows.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Filter {
    /// From this instant on: RFC 3339, a day (YYYY-MM-DD), today, yesterday, or so long ago (90m, 24h, 7d, 2w).
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Before this instant.
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<String>,
    /// Of this project: its folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<String>,
    /// Of this session: its id or a unique prefix.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Of this source.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Of this model.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Recorded by this host: its label as `status` shows it.
    #[arg(long, value_name = "LABEL")]
    pub(crate) host: Option<String>,
    /// Stamped with this key and value. May be repeated; all must hold.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) tag: Vec<String>,
    /// At most this many rows.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = rows)]
    pub(crate) limit: Option<usize>,
}

/// A number of rows.
fn rows(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a limit is a whole number of rows, 0 or more".to_owned())
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Usage {
    /// What the sums are grouped by; several with commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "model")]
    pub(crate) by: Vec<By>,
    /// Shows what the calls cost at list prices, as far as the prices are known.
    #[arg(long)]
    pub(crate) cost: bool,
    /// A price table instead of the one that burnlog brings along (docs/prices.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// A dimension of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The model.
    Model,
    /// The day in UTC.
    Day,
    /// The ISO week.
    Week,
    /// The month.
    Month,
    /// The project of the home session.
    Project,
    /// The home session.
    Session,
    /// The source.
    Source,
    /// The hosts that recorded the call; a call may be in several groups.
    Host,
    /// The git branch.
    Branch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Show {
    /// The session's id or a unique prefix.
    pub(crate) session: String,
    /// The form; `--json` is `--format json`.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Shows all of every text, result and tool input.
    #[arg(long)]
    pub(crate) full: bool,
    /// Leaves out history that was copied from another session.
    #[arg(long)]
    pub(crate) no_copied: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Content {
    /// Only blocks of this kind: text, thinking, tool_use, tool_result, image, system, summary …. May be repeated.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Relationships {
    /// Only what hangs together with this session: its id or a unique prefix.
    #[arg(value_name = "SESSION")]
    pub(crate) around: Option<String>,
    /// Draws a tree: sessions below those they came out of, subagents below their sessions.
    #[arg(long, group = "drawing")]
    pub(crate) tree: bool,
    /// Prints a graph for Graphviz.
    #[arg(long, group = "drawing")]
    pub(crate) dot: bool,
    /// Prints a graph for Mermaid.
    #[arg(long, group = "drawing")]
    pub(crate) mermaid: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Conflicts {
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["session", "stream", "call"])))]
pub(crate) struct Stamp {
    /// The session: its id or a unique prefix, or the id of one that is still to come.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// The stream: one session file.
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    /// The API call.
    #[arg(long, value_name = "ID")]
    pub(crate) call: Option<String>,
    /// Only what is of this source; without it what has this id in any.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// What is attached. KEY= without a value takes the key away.
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// How long to wait for an ingest into the same ledger.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u64,
}

/// Makes records unreadable for ever, and folds the rows without them.
///
/// What is left of a record is its place, its hash and a receipt in this host's feed: `verify` goes on, the rows are those of
/// a ledger that never read it, so calls that it told of no longer count. The bytes go with the next `burnlog compact`. Other
/// ledgers that have the record keep it: erase it there as well. A fork's copy of the session is records of its own. The
/// agent's own files are not touched; reading them again brings nothing back.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["session", "event"])))]
pub(crate) struct Erase {
    /// All records of this session: its id or a unique prefix.
    pub(crate) session: Option<String>,
    /// One record, by the address that `content --json` and `search --json` print. May be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) event: Vec<burnlog_log::Address>,
    /// Why; stands in the receipt.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Does it; without it, says what would be erased.
    #[arg(long)]
    pub(crate) yes: bool,
    /// How long to wait for an ingest into the same ledger.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u64,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Export {
    /// The form of the rows.
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    pub(crate) format: ExportFormat,
    /// Which rows: turns, sessions, content, relationships, records, or a table of the projections: calls, usage_daily,
    /// tool_uses, user_turns, compactions, notices, conflicts, stamps, streams, diagnostics ….
    #[arg(long, value_name = "NAME")]
    pub(crate) table: String,
    /// Writes this file, and it only when all is written; without it to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header; absent is empty.
    Csv,
    /// A Parquet file.
    #[cfg(feature = "parquet")]
    Parquet,
}

/// How a transcript is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a terminal, through a pager where there is one.
    Text,
    /// For an issue.
    Markdown,
    /// One file for a browser, without scripts.
    Html,
    /// One object; docs/json.md has the fields.
    Json,
}

/// Finds words in what was said, thought, asked of tools and given back by them.
///
/// The first search builds an index in a file of its own, RELAYBURN_HOME/projections/LEDGER.search.sqlite; later ones and
/// each ingest add what is new to it. It may be deleted at any time. Of blocks longer than 64 KiB the first 64 KiB are
/// indexed. Snippets are cut from the records in the ledger.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Queries:
  fatal error       both words, anywhere in one block
  '\"fatal error\"'   the words one behind the other
  fat*              words that begin so
  fatal OR panic    one of the two; joins its neighbours only
  'error -timeout'  without that word; in quotation marks, or behind --
Case and accents make no difference. Only letters and digits are indexed: src/main.rs is the phrase \"src main rs\".
Of a query with more than 5,000 blocks those indexed last are ranked; filters apply before that.
The ten best are shown unless --limit says otherwise.")]
pub(crate) struct Search {
    /// What to look for; see below.
    #[arg(required = true)]
    pub(crate) query: Vec<String>,
    /// Only in blocks of this kind; several with commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) kind: Vec<BlockKind>,
    /// In which order.
    #[arg(long, value_enum, default_value_t = Sort::Score)]
    pub(crate) sort: Sort,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// A kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum BlockKind {
    /// What a user or a model said.
    Text,
    /// What a model thought.
    Thinking,
    /// What was asked of a tool.
    ToolUse,
    /// What a tool gave back.
    ToolResult,
    /// The summary of a session.
    Summary,
    /// What the agent says of itself.
    System,
}

/// An order of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The best match first, of equals the latest.
    Score,
    /// The latest first.
    Time,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Project {
    /// Shows versions and how far each projection is behind.
    Status,
    /// Folds what the ledger has and the projections lack.
    Update,
    /// Folds everything anew from the ledger alone, beside the rows in use, and then swaps.
    Rebuild,
    /// Prints every row in one fixed order: the same ledger gives the same bytes.
    Dump {
        /// Only this projection.
        #[arg(long, value_name = "NAME")]
        projection: Option<String>,
        /// Also which hosts saw what.
        #[arg(long)]
        hosts: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Replay {
    /// The ledger to copy.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The ledger to bring up to date; made if it does not exist.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Restore {
    /// The session's id or a unique prefix.
    pub(crate) session: String,
    /// Where the files go: DIR/STREAM.jsonl.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Writes over files that exist.
    #[arg(long)]
    pub(crate) force: bool,
    /// Every extent that was written down, not only the latest.
    #[arg(long)]
    pub(crate) all: bool,
}

/// Serves ledgers over HTTP.
///
/// The ledger of --store is the one named default; --ledger adds others, and alone it replaces that one. Projections and
/// tokens are kept in RELAYBURN_HOME of this machine. Without any token the server listens on loopback addresses only and
/// lets everything be done from this machine. SIGTERM and SIGINT stop it when what is under way is done.
#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7330")]
    pub(crate) listen: std::net::SocketAddr,
    /// A ledger under a name of its own. May be repeated.
    #[arg(long, value_name = "NAME=URL")]
    pub(crate) ledger: Vec<String>,
    /// The certificate chain (PEM); then TLS alone is served.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The form of the log on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log: LogFormat,
}

/// A form of the server's log. No form shows payloads or tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line an event.
    Text,
    /// One JSON object an event.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Makes a token and prints it, once.
    Create {
        /// What it allows; several with commas.
        #[arg(long, value_enum, value_delimiter = ',', required = true)]
        scope: Vec<TokenScope>,
        /// Only for the ledger of this name; without it for all.
        #[arg(long, value_name = "NAME")]
        ledger: Option<String>,
        /// A label.
        #[arg(long, value_name = "LABEL")]
        name: Option<String>,
    },
    /// Lists tokens, without what is secret.
    List,
    /// Makes a token useless, at once.
    Revoke {
        /// Its id or a unique prefix.
        id: String,
    },
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenScope {
    /// Append batches, and ask what is there; not what it says.
    Append,
    /// Read events and rows.
    Read,
    /// Everything, also erase, compact and check.
    Admin,
}
