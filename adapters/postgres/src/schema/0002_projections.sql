-- The projections' own records. Their rows are in tables of each generation, which the program makes from its declared
-- tables, and in views over those of the live one. All of it can be folded again from the ledger half.

-- The one row: whose rows these are, which generation came last, and who may fold. The lease is over at
-- `lease_until`, by this server's clock; null where it was given back.
create table {s}.projections (
    one boolean primary key default true check (one),
    ledger bytea check (length(ledger) = 16),
    last_generation int8 not null default 0,
    lease_token int8 not null default 0,
    lease_holder text not null default '',
    lease_until timestamptz
) with (fillfactor = 20);
insert into {s}.projections default values;

-- One row a generation: the live one, and at most one that is being built beside it.
create table {s}.projection_generations (
    generation int8 primary key,
    version int8 not null,
    revision int8 not null,
    token bytea,
    settled boolean not null,
    live boolean not null
) with (fillfactor = 20);

-- How far each feed was folded.
create table {s}.projection_cursors (
    generation int8 not null,
    feed bytea not null,
    next int8 not null,
    primary key (generation, feed)
);
