//! This host's feed in a ledger: its key, its cursors, and what to say when the ledger does not continue what this host
//! remembers. What `ingest` and `stamp` have in common.

use crate::environment::Environment;
use crate::output::say;
use burnlog_host::{Config, FeedStart, HostWriter, Identity, KnownPoint, LedgerState};
use burnlog_log::Ledger;
use burnlog_projections::Projector;
use burnlog_sources::CursorFile;

/// Opens this host's feed in a ledger and its cursors. The lock of the ledger's state must be held. `rows` are those of the ledger, where
/// this program folds them: they may know more of the feed than the ledger has.
pub(crate) fn open_feed(
    environment: &Environment,
    global: &crate::args::Global,
    config: &Config,
    (ledger, state): (&Ledger, &LedgerState),
    rows: Option<&mut Projector<'_>>,
) -> anyhow::Result<(HostWriter, CursorFile)> {
    let given = environment.given_key()?;
    let identity = Identity {
        host: environment.host_name(config),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut opened = None;
    let saved = |feed| {
        let cursors = opened.insert(CursorFile::open(state.cursors(), feed)?);
        let saved = cursors.newest().map(|point| KnownPoint { size: point.size, root: Some(point.root) });
        let folded = rows.map(|rows| rows.folded(&feed)).transpose()?;
        Ok(saved.into_iter().chain(folded.map(|size| KnownPoint { size, root: None })).collect())
    };
    let writer = HostWriter::open(ledger, state.clone(), given, &identity, saved)?;
    if let FeedStart::Restarted { feed, size, found_size } = writer.start() {
        say(
            global,
            &format!(
                "burnlog: this host remembers its feed {feed} at {size} entries, the ledger has {found_size} of it (restored \
                 from a backup?); started a new feed that names the old one, every file is read again"
            ),
        );
    }
    let cursors = match opened.filter(|cursors| cursors.feed() == writer.feed()) {
        Some(cursors) => cursors,
        None => CursorFile::open(state.cursors(), writer.feed())?,
    };
    if let Some(why) = cursors.damage() {
        say(
            global,
            &format!("burnlog: cursors dropped ({why}); every file is read again, nothing is stored twice"),
        );
    }
    Ok((writer, cursors))
}
