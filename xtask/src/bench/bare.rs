//! What a database does at best with the same bytes: address, skeleton and payload of every record, without feeds, heads,
//! signatures or compression of ours. `COPY` with `ON CONFLICT` for Postgres, a prepared insert for SQLite.

use super::server::Server;
use crate::count::list_session_files;
use anyhow::{Context, Result};
use rusqlite::Connection;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How many bytes go into one transaction of Postgres, as in a batch of an ingest.
const BATCH_BYTES: usize = 1 << 20;

/// Calls `take` with address, skeleton and payload of every record.
fn each(home: &Path, mut take: impl FnMut(&[u8; 32], &[u8], &[u8]) -> Result<()>) -> Result<()> {
    let mut files = Vec::new();
    list_session_files(&home.join(".claude/projects"), &mut files)?;
    for (stream, path) in files.iter().enumerate() {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for (seq, line) in lines.enumerate() {
            let skeleton = format!(
                "{{\"v\":1,\"kind\":\"line\",\"source\":\"claude-code\",\"stream\":\"{stream:036}\",\"seq\":{seq},\
                 \"payload\":\"b3:{}\",\"bytes\":{}}}",
                blake3::hash(line).to_hex(),
                line.len()
            );
            take(blake3::hash(skeleton.as_bytes()).as_bytes(), skeleton.as_bytes(), line)?;
        }
    }
    Ok(())
}

/// Inserts everything into a new SQLite file in one transaction. Returns the seconds that inserting took; reading the files
/// and hashing are not counted.
pub(super) fn sqlite(home: &Path, path: &Path) -> Result<f64> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, address BLOB UNIQUE, skeleton BLOB, payload BLOB)",
    )?;
    let mut seconds = 0.0;
    let transaction = connection.transaction()?;
    let sql = "INSERT OR IGNORE INTO events (address, skeleton, payload) VALUES (?1, ?2, ?3)";
    let mut insert = transaction.prepare(sql)?;
    each(home, |address, skeleton, payload| {
        let begun = Instant::now();
        insert.execute((address, skeleton, payload))?;
        seconds += begun.elapsed().as_secs_f64();
        Ok(())
    })?;
    drop(insert);
    let begun = Instant::now();
    transaction.commit()?;
    Ok(seconds + begun.elapsed().as_secs_f64())
}

/// The records as files for `COPY`, in its binary format, and a script for `psql` that brings them all.
pub(super) struct Copies {
    script: PathBuf,
}

impl Copies {
    pub(super) fn write(home: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (mut batch, mut number) = (Vec::new(), 0);
        let mut script = String::from("create temp table arriving (like raw);\n");
        let mut finish = |batch: &mut Vec<u8>| -> Result<()> {
            let path = folder.join(format!("{number}.copy"));
            let mut file = File::create(&path)?;
            file.write_all(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")?;
            file.write_all(batch)?;
            file.write_all(&(-1i16).to_be_bytes())?;
            script.push_str(&format!(
                "begin; truncate arriving;\n\\copy arriving from '{}' (format binary)\n\
                 insert into raw select * from arriving order by address on conflict do nothing; commit;\n",
                path.display()
            ));
            number += 1;
            batch.clear();
            Ok(())
        };
        each(home, |address, skeleton, payload| {
            batch.extend_from_slice(&3i16.to_be_bytes());
            for field in [&address[..], skeleton, payload] {
                batch.extend_from_slice(&(field.len() as i32).to_be_bytes());
                batch.extend_from_slice(field);
            }
            if batch.len() >= BATCH_BYTES { finish(&mut batch) } else { Ok(()) }
        })?;
        finish(&mut batch)?;
        let path = folder.join("all.sql");
        fs::write(&path, script)?;
        Ok(Self { script: path })
    }

    /// Brings everything into a new database. Returns the seconds that it took.
    pub(super) fn bring(&self, server: &Server) -> Result<f64> {
        server.database("bare")?;
        let table =
            "create table raw (address bytea primary key, skeleton bytea not null, payload bytea not null)";
        server.psql("bare", &["-c", table])?;
        let begun = Instant::now();
        server.psql("bare", &["-f", self.script.to_str().context("the scratch folder is UTF-8")?])?;
        Ok(begun.elapsed().as_secs_f64())
    }
}
