//! Measures the backend against what Postgres itself can do with the same bytes, in the same run: `COPY` into a
//! temporary table and `INSERT … ON CONFLICT DO NOTHING`, one transaction a batch.
//!
//! `cargo run --release -p burnlog-postgres --features cluster --example postgres_replay -- FOLDER [ROUNDS] [BATCH_BYTES]`

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use burnlog_log::{
    Address, Batch, Body, Kind, Ledger, LedgerId, Limit, MemoryBackend, Position, Timestamp, WriterId,
    WriterKey, replay,
};
use burnlog_postgres::{Cluster, Database, PostgresBackend, PostgresOptions};
use bytes::{BufMut, BytesMut};
use futures_util::SinkExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, from, to] = arguments.as_slice()
        && mode == "--between"
    {
        return between(from, to);
    }
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (rounds, batch_bytes) = (number(1, 1), number(2, 1 << 20));
    let mut files = Vec::new();
    walk(Path::new(&arguments[0]), &mut files);
    files.sort();
    let source = Ledger::new(MemoryBackend::new(LedgerId([1; 16])));
    let source_bytes = ingest(&source, &files, batch_bytes);
    let (feed, records) = (source.feeds().unwrap()[0].feed, source.feeds().unwrap()[0].size);
    println!("source         {records} records, {source_bytes} bytes, batches of {batch_bytes}");
    let cluster = Cluster::start_for_ever(&[]).unwrap();
    for _ in 0..rounds {
        for compression in ["pglz", "lz4"] {
            baseline(cluster, &source, feed, compression, source_bytes);
        }
        ours(cluster, &source, source_bytes);
    }
    million_feeds(cluster);
}

fn ours(cluster: &'static Cluster, source: &Ledger, source_bytes: u64) {
    let database = cluster.database().unwrap();
    let open = || Ledger::new(PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap());
    for name in ["replay", "replay again"] {
        let watch = Watch::start(&database);
        let there = open();
        let report = replay(source, &there, &mut |_| {}).unwrap();
        drop(there);
        watch.stop(name, source.feeds().unwrap()[0].size);
        println!("               {} batches, {} events sent", report.batches, report.events_sent);
    }
    // In a process of its own, because this one holds the source in memory.
    let other = cluster.database().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--between", database.url(), other.url()])
        .status();
    assert!(child.unwrap().success());
    drop(other);
    print_size(&open(), &database, source_bytes);
    let feed = source.feeds().unwrap()[0].feed;
    let watch = Watch::start(&database);
    let there = open();
    let (entries, bytes) = read_back(&there, &feed);
    drop(there);
    watch.stop("read back", entries);
    println!("               {bytes} bytes");
    let there = open();
    let addresses = scattered(source, &feed);
    let started = Instant::now();
    for address in &addresses {
        assert!(there.get(&[*address], Limit::default()).unwrap()[0].is_some());
    }
    let each = started.elapsed().as_secs_f64() / addresses.len() as f64;
    println!("get one        {:.2} ms, {} scattered events", each * 1e3, addresses.len());
    let started = Instant::now();
    there.find(&feed, &addresses).unwrap();
    println!("find           {:.2} ms, the same at once", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let mut writer = there.writer(WriterKey::from_secret([9; 32])).unwrap();
    for seq in 0..500 {
        let mut batch = Batch::default();
        let stream = "single".into();
        let position = Position { kind: Kind::Line, source: "measure".into(), stream, seq, part: None };
        batch.push(position, b"{\"one\":\"record\"}").unwrap();
        writer.append(&batch, Timestamp::from_micros(0)).unwrap();
    }
    println!("append one     {:.2} ms, 500 batches of one record", started.elapsed().as_secs_f64() * 2.0);
    let watch = Watch::start(&database);
    there.backend().check(&mut |damage| panic!("{damage:?}")).unwrap();
    watch.stop("check", source.feeds().unwrap()[0].size);
    let started = Instant::now();
    let compacted = there.compact().unwrap();
    println!("compact        {:.2} s, {compacted:?}", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let stat = there.stat().unwrap();
    println!("stat           {:.4} s, {stat:?}", started.elapsed().as_secs_f64());
}

/// Replays from one ledger in Postgres into another and prints the most memory that it took.
fn between(from: &str, to: &str) {
    let open = |url| Ledger::new(PostgresBackend::open(url, &PostgresOptions::default()).unwrap());
    let (from, to, started) = (open(from), open(to), Instant::now());
    let report = replay(&from, &to, &mut |_| {}).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("between two    {} entries in {seconds:.2} s, {} MiB at the peak", report.entries, peak_mib());
}

/// A thousand addresses from all over the feed.
fn scattered(source: &Ledger, feed: &WriterId) -> Vec<Address> {
    let size = source.feeds().unwrap()[0].size;
    let at = |n: u64| (n * 2_654_435_761) % size;
    let read = |n| source.read(feed, at(n), Limit { entries: 1, bytes: 1 }).unwrap().entries[0].address;
    (0..1000).map(read).collect()
}

/// A million feeds, of which three move.
fn million_feeds(cluster: &'static Cluster) {
    let database = cluster.database().unwrap();
    let there = Ledger::new(PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap());
    let before = there.for_each_feed(None, |_| Ok(())).unwrap();
    database
        .run(
            "insert into burnlog.feeds select sha256(n::text::bytea), n, 1, sha256('r'), 0, sha256('s') || sha256('t'), \
             '', pg_current_xact_id() from generate_series(1, 1000000) as n",
        )
        .unwrap();
    let listed = |token, name| {
        let (started, mut count) = (Instant::now(), 0);
        let next = there.for_each_feed(token, |_| {
            count += 1;
            Ok(())
        });
        println!("{name:<14} {count} feeds in {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
        next.unwrap()
    };
    let token = listed(None, "all feeds");
    listed(Some(&before), "all moved");
    for number in 1..=3 {
        let mut writer = there.writer(WriterKey::from_secret([number; 32])).unwrap();
        let mut batch = Batch::default();
        let stream = "moved".into();
        let position = Position { kind: Kind::Writer, source: "burnlog".into(), stream, seq: 0, part: None };
        batch.push(position, b"{}").unwrap();
        writer.append(&batch, Timestamp::from_micros(0)).unwrap();
    }
    listed(Some(&token), "three moved");
    listed(Some(&token), "three moved");
}

fn print_size(there: &Ledger, database: &Database, source_bytes: u64) {
    let stat = there.stat().unwrap();
    println!(
        "size           {} bytes, {:.3} of the source",
        stat.bytes_on_disk,
        stat.bytes_on_disk as f64 / source_bytes as f64
    );
    for table in ["events", "entries", "blocks", "places", "feeds"] {
        let sql = format!(
            "select pg_table_size('burnlog.{table}'), pg_indexes_size('burnlog.{table}'), \
             (select count(*) from burnlog.{table})"
        );
        let rows = database.rows(&sql).unwrap();
        println!("               {table}: {} bytes, indexes {}, {} rows", rows[0][0], rows[0][1], rows[0][2]);
    }
}

/// `COPY` and `ON CONFLICT` of the same skeletons and payloads, without feeds, heads or hashing.
fn baseline(
    cluster: &'static Cluster,
    source: &Ledger,
    feed: WriterId,
    compression: &str,
    source_bytes: u64,
) {
    let database = cluster.database().unwrap();
    database
        .run(&format!(
            "create table raw (address bytea primary key, skeleton bytea not null, \
             payload bytea compression {compression} not null)"
        ))
        .unwrap();
    let batches = batches(source, &feed);
    let records = batches.iter().map(|(count, _)| count).sum();
    for name in ["first", "again"] {
        let watch = Watch::start(&database);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(copy_all(database.url(), &batches));
        runtime.shutdown_background();
        watch.stop(&format!("COPY {compression} {name}"), records);
    }
    let size: u64 = database.rows("select pg_total_relation_size('raw')").unwrap()[0][0].parse().unwrap();
    println!("size           {size} bytes, {:.3} of the source", size as f64 / source_bytes as f64);
}

async fn copy_all(url: &str, batches: &[(u64, BytesMut)]) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create temp table arriving (like raw)").await.unwrap();
    for (_, bytes) in batches {
        client.batch_execute("begin; truncate arriving").await.unwrap();
        let mut sink = pin!(client.copy_in("copy arriving from stdin binary").await.unwrap());
        sink.send(bytes.clone().freeze()).await.unwrap();
        sink.finish().await.unwrap();
        let insert = "insert into raw select * from arriving order by address on conflict do nothing; commit";
        client.batch_execute(insert).await.unwrap();
    }
}

/// The source's batches in the binary format of `COPY`.
fn batches(source: &Ledger, feed: &WriterId) -> Vec<(u64, BytesMut)> {
    let (mut batches, mut from) = (Vec::new(), 0);
    loop {
        let head = source.read(feed, from, Limit { entries: 1, bytes: 1 }).unwrap().heads;
        let Some(head) = head.first() else { return batches };
        let mut out = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
        let count = head.size - from;
        while from < head.size {
            let limit = Limit { entries: (head.size - from) as usize, bytes: u64::MAX };
            for entry in source.read(feed, from, limit).unwrap().entries {
                let Body::Present { skeleton, payload } = entry.body else { panic!("an erased event") };
                out.put_i16(3);
                for field in [&entry.address.0[..], &skeleton, &payload] {
                    out.put_i32(field.len() as i32);
                    out.put_slice(field);
                }
                from += 1;
            }
        }
        out.put_i16(-1);
        batches.push((count, out));
    }
}

/// Wall time, and CPU time of this process and of the server.
struct Watch<'d> {
    database: &'d Database,
    wall: Instant,
    client: f64,
    server: f64,
}

impl<'d> Watch<'d> {
    fn start(database: &'d Database) -> Self {
        Self { database, wall: Instant::now(), client: cpu_seconds("self", 0), server: server_cpu(database) }
    }

    fn stop(self, name: &str, records: u64) {
        let wall = self.wall.elapsed().as_secs_f64();
        let (client, server) =
            (cpu_seconds("self", 0) - self.client, server_cpu(self.database) - self.server);
        println!(
            "{name:<14} {wall:.2} s, CPU {client:.2} here + {server:.2} there, {:.0} records/s",
            records as f64 / wall
        );
    }
}

/// CPU seconds of the server and all its processes, those that ended included.
fn server_cpu(database: &Database) -> f64 {
    let folder = database.rows("show data_directory").unwrap().remove(0).remove(0);
    let pid = std::fs::read_to_string(Path::new(&folder).join("postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    cpu_seconds(&pid, 2) + children.split_whitespace().map(|child| cpu_seconds(child, 0)).sum::<f64>()
}

/// User and system time of a process; with `ended` 2, of its children that ended as well.
fn cpu_seconds(pid: &str, ended: usize) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (11..13 + ended).filter_map(|field| fields.get(field)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(path);
        }
    }
}

fn ingest(ledger: &Ledger, files: &[PathBuf], batch_bytes: u64) -> u64 {
    let mut writer = ledger.writer(WriterKey::from_secret([1; 32])).unwrap();
    let (mut batch, mut source_bytes) = (Batch::default(), 0);
    for file in files {
        let stream = file.file_stem().unwrap().to_string_lossy().into_owned();
        let content = std::fs::read(file).unwrap();
        source_bytes += content.len() as u64;
        for (seq, line) in (0..).zip(content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())) {
            if batch.bytes() >= batch_bytes || !batch.has_room_for(line.len()) {
                writer.append(&batch, Timestamp::from_micros(0)).unwrap();
                batch.clear();
            }
            let position = Position {
                kind: Kind::Line,
                source: "claude-code".into(),
                stream: stream.as_str().into(),
                seq,
                part: None,
            };
            batch.push(position, line).unwrap();
        }
    }
    writer.append(&batch, Timestamp::from_micros(0)).unwrap();
    source_bytes
}

fn read_back(ledger: &Ledger, feed: &WriterId) -> (u64, u64) {
    let (mut entries, mut bytes) = (0, 0);
    loop {
        let page = ledger.read(feed, entries, Limit::default()).unwrap();
        if page.entries.is_empty() {
            return (entries, bytes);
        }
        entries += page.entries.len() as u64;
        for entry in page.entries {
            if let Body::Present { payload, .. } = entry.body {
                bytes += payload.len() as u64;
            }
        }
    }
}
