-- The ledger half. Bytes are bytea and nothing else; no sequences, no foreign keys.

create table {s}.ledger (
    one boolean primary key default true check (one),
    id bytea not null check (length(id) = 16),
    created_at timestamptz not null default now()
);

-- One row a feed: its newest head. `number` stands for the writer in rows of events; `moved` is the transaction
-- that wrote the newest head.
create table {s}.feeds (
    writer bytea primary key check (length(writer) = 32),
    number int8 not null unique,
    size int8 not null,
    root bytea not null,
    recorded_at int8 not null,
    signature bytea not null,
    frontier bytea not null,
    moved xid8 not null
);
create index feeds_moved on {s}.feeds (moved);

-- One row a batch: the run of addresses from `index` up to `size`, and the head that signs it.
create table {s}.entries (
    writer bytea not null,
    index int8 not null,
    size int8 not null check (size > index),
    root bytea not null check (length(root) = 32),
    recorded_at int8 not null,
    signature bytea not null check (length(signature) = 64),
    addresses bytea not null,
    primary key (writer, index)
);
alter table {s}.entries alter column addresses set storage external;

-- One row an event: where its bytes are, and where it stands in the feed that brought it. `payload_bytes` is null
-- once the payload is erased.
create table {s}.events (
    feed int8 not null,
    index int8 not null,
    block int8 not null,
    start int4 not null,
    skeleton_bytes int4 not null,
    payload_bytes int4,
    address bytea primary key check (length(address) = 32)
);

-- Where an event stands in every other feed that has it.
create table {s}.places (
    feed int8 not null,
    index int8 not null,
    address bytea not null,
    primary key (address, feed)
);

-- Skeletons and payloads of neighbouring events, compressed together.
create table {s}.blocks (
    id int8 primary key,
    raw_bytes int4 not null,
    bytes bytea not null
);
alter table {s}.blocks alter column bytes set storage external;

-- Events and bytes of payloads, summed over the rows. Rewritten with every batch, so there is room to do it in place.
create table {s}.counters (
    shard int2 primary key,
    events int8 not null,
    payload_bytes int8 not null
) with (fillfactor = 20);
insert into {s}.counters (shard, events, payload_bytes) select n, 0, 0 from generate_series(0, 15) as n;
