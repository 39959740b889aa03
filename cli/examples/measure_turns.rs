//! An ingest, or a rebuild of its rows, as the program does it, but for the blocks of content, which are not folded: what turns alone
//! take, for `cargo xtask bench`.
//!
//! `measure_turns ingest|rebuild ROOT HOME`

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use burnlog_host::{Home, HostWriter, Identity, IngestLock};
use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::{Batch, Ledger, Result, Timestamp};
use burnlog_projections::{FoldLimits, Projector};
use burnlog_sources::{Acknowledged, CursorFile, FeedPoint, Options, Places, discover, ingest};
use burnlog_sqlite::{SqliteOptions, SqliteProjections};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, root, home] = &arguments[..] else { panic!("measure_turns ingest|rebuild ROOT HOME") };
    let home = Home::new(home);
    let options = JsonlOptions { create: true, seal_recomputes_hashes: false, ..JsonlOptions::default() };
    let ledger = Ledger::new(JsonlBackend::open(&home.ledger(), options)?);
    let id = ledger.location().id;
    home.create_projections_folder()?;
    let mut store = SqliteProjections::open(
        &home.projections(id),
        &SqliteOptions { linked: true, ..SqliteOptions::default() },
    )?;
    if what == "rebuild" {
        store = store.anew()?;
        let mut projector =
            Projector::rebuild(&mut store, &ledger, FoldLimits::default())?.without_content()?;
        println!("{:?}", projector.catch_up(&ledger)?);
        return Ok(());
    }
    let state = home.ledger_state(id);
    state.create()?;
    let _lock = IngestLock::acquire(&state.lock(), Duration::ZERO)?;
    let mut projector = Projector::new(&mut store, &ledger, FoldLimits::default())?.without_content()?;
    let identity = Identity {
        host: "measure".to_owned(),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut writer = HostWriter::open(&ledger, state.clone(), None, &identity, |_| Ok(Vec::new()))?;
    let mut cursors = CursorFile::open(state.cursors(), writer.feed())?;
    let options = Options { check_records: false, ..Options::default() };
    let mut sink = |batch: &Batch| {
        let fold =
            &mut |feed: &_, batch: &_, outcomes: &_| projector.fold_appended(feed, batch, outcomes).map(drop);
        let outcomes = writer.append(batch, now(), fold)?;
        let head = writer.head().unwrap();
        Ok(Acknowledged { outcomes, point: FeedPoint { size: head.size, root: head.root } })
    };
    let plan = discover(&Places::Roots(vec![PathBuf::from(root)]));
    let report = ingest(plan, &mut cursors, &options, &mut sink, &mut ())?;
    writer.remember()?;
    projector.catch_up(&ledger)?;
    println!("{:?}", report.total());
    Ok(())
}

fn now() -> Timestamp {
    Timestamp::from_micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64)
}
