//! The statements, written once for the schema of a ledger. Every name is qualified, so that no search path matters.

/// The number of rows over which the counters are spread.
pub(crate) const COUNTER_SHARDS: u8 = 16;

/// The statements of one ledger.
pub(crate) struct Sql {
    /// The schema, quoted.
    pub(crate) schema: String,
    pub(crate) lock_feed: String,
    pub(crate) create_feed: String,
    pub(crate) insert_events: String,
    pub(crate) known: String,
    pub(crate) insert_places: String,
    pub(crate) insert_blocks: String,
    pub(crate) insert_entries: String,
    pub(crate) update_feed: String,
    pub(crate) update_counters: String,
    pub(crate) read_feed: String,
    pub(crate) locate: String,
    pub(crate) blocks: String,
    pub(crate) find: String,
    pub(crate) moved_count: String,
    pub(crate) feeds: String,
    pub(crate) feeds_moved_few: String,
    pub(crate) feeds_moved_many: String,
    pub(crate) lock_events: String,
    pub(crate) lock_blocks: String,
    pub(crate) update_block: String,
    pub(crate) erase_events: String,
    pub(crate) stat: String,
}

/// What tells one run of one server from every other: tokens are transaction numbers, and these start again with
/// another server, a restored one, or one that recovered from a crash (which also resets its statistics).
const RUN: &str = "extract(epoch from pg_postmaster_start_time())::numeric::text || '/' || \
     coalesce((select extract(epoch from stats_reset)::numeric::text from pg_stat_bgwriter), '')";

const HEAD: &str = "writer, size, root, recorded_at, signature";

impl Sql {
    /// Writes the statements for a schema whose name was checked.
    pub(crate) fn new(ledger: &str) -> Self {
        let s = format!("\"{ledger}\"");
        Self {
            lock_feed: format!("select number, size, root from {s}.feeds where writer = $1 for update"),
            create_feed: format!(
                "insert into {s}.feeds (writer, number, size, root, recorded_at, signature, frontier, moved) \
                 values ($1, $2, 0, '', 0, '', '', pg_current_xact_id()) on conflict (writer) do nothing"
            ),
            // In the order of addresses, so that writers who bring the same events wait for each other in one order.
            insert_events: format!(
                "insert into {s}.events (feed, index, block, start, skeleton_bytes, payload_bytes, address) \
                 select $1, u.index, u.block, u.start, u.skeleton_bytes, u.payload_bytes, u.address \
                 from unnest($2::int8[], $3::int8[], $4::int4[], $5::int4[], $6::int4[], $7::bytea[]) \
                 as u(index, block, start, skeleton_bytes, payload_bytes, address) \
                 order by u.address on conflict (address) do nothing"
            ),
            known: format!(
                "select u.position, e.feed, e.index, p.index \
                 from unnest($2::bytea[]) with ordinality as u(address, position) \
                 left join {s}.events e on e.address = u.address \
                 left join {s}.places p on p.address = u.address and p.feed = $1"
            ),
            insert_places: format!(
                "insert into {s}.places (feed, index, address) \
                 select $1, u.index, u.address from unnest($2::int8[], $3::bytea[]) as u(index, address)"
            ),
            insert_blocks: format!(
                "insert into {s}.blocks (id, raw_bytes, bytes) select * from unnest($1::int8[], $2::int4[], $3::bytea[])"
            ),
            insert_entries: format!(
                "insert into {s}.entries (writer, index, size, root, recorded_at, signature, addresses) \
                 values ($1, $2, $3, $4, $5, $6, $7)"
            ),
            update_feed: format!(
                "update {s}.feeds set size = $2, root = $3, recorded_at = $4, signature = $5, frontier = $6, \
                 moved = pg_current_xact_id() where writer = $1"
            ),
            update_counters: format!(
                "update {s}.counters set events = events + $2, payload_bytes = payload_bytes + $3 where shard = $1"
            ),
            read_feed: read_feed(&s),
            locate: format!(
                "select u.position, e.block, e.start, e.skeleton_bytes, e.payload_bytes \
                 from unnest($1::bytea[]) with ordinality as u(address, position) \
                 join {s}.events e on e.address = u.address"
            ),
            blocks: format!("select id, raw_bytes, bytes from {s}.blocks where id = any($1)"),
            find: format!(
                "select u.position, e.feed = f.number, e.index, p.index, e.payload_bytes is null \
                 from unnest($2::bytea[]) with ordinality as u(address, position) \
                 join {s}.events e on e.address = u.address \
                 left join {s}.feeds f on f.writer = $1 \
                 left join {s}.places p on p.address = u.address and p.feed = f.number"
            ),
            moved_count: format!(
                "select pg_snapshot_xmin(pg_current_snapshot())::text, {RUN}, \
                 (select count(*) from (select 1 from {s}.feeds where moved >= $1::text::xid8 limit $2) as few)"
            ),
            feeds: format!("select {HEAD} from {s}.feeds where writer > $1 order by writer limit $2"),
            feeds_moved_few: format!(
                "with few as materialized (select {HEAD} from {s}.feeds \
                 where moved >= $3::text::xid8 and writer > $1) select * from few order by writer limit $2"
            ),
            feeds_moved_many: format!(
                "select {HEAD} from {s}.feeds where moved >= $3::text::xid8 and writer > $1 \
                 order by writer limit $2"
            ),
            lock_events: format!(
                "select address, block, start + skeleton_bytes, payload_bytes from {s}.events \
                 where address = any($1) order by address for update"
            ),
            lock_blocks: format!(
                "select id, raw_bytes, bytes from {s}.blocks where id = any($1) order by id for update"
            ),
            update_block: format!("update {s}.blocks set bytes = $2 where id = $1"),
            erase_events: format!("update {s}.events set payload_bytes = null where address = any($1)"),
            stat: format!(
                "select sum(events)::int8, sum(payload_bytes)::int8, {} from {s}.counters",
                bytes_on_disk(&s)
            ),
            schema: s,
        }
    }
}

/// The tables that a ledger takes; those of projections in the same schema are not its bytes.
pub(crate) const TABLES: [&str; 7] = ["events", "entries", "blocks", "places", "feeds", "counters", "ledger"];

/// An expression for the bytes that the tables take, indexes and TOAST included.
pub(crate) fn bytes_on_disk(schema: &str) -> String {
    TABLES.map(|table| format!("pg_total_relation_size('{schema}.{table}')")).join(" + ")
}

/// The feed with the runs of entries that overlap `$2 .. $2 + $3`, each with its part of the addresses.
///
/// The first run is the last one that begins at or before `$2`; the key finds it without an index on sizes.
fn read_feed(s: &str) -> String {
    format!(
        "select f.size, f.root, f.recorded_at, f.signature, f.frontier, \
         e.index, e.size, e.root, e.recorded_at, e.signature, length(e.addresses), \
         substring(e.addresses from (32 * (greatest($2, e.index) - e.index))::int4 + 1 \
         for (32 * (least($2 + $3, e.size) - greatest($2, e.index)))::int4) \
         from {s}.feeds f left join {s}.entries e on e.writer = f.writer and e.index < $2 + $3 and e.size > $2 \
         and e.index >= coalesce((select b.index from {s}.entries b \
         where b.writer = $1 and b.index <= $2 order by b.index desc limit 1), 0) \
         where f.writer = $1 order by e.index"
    )
}
