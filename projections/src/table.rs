//! Tables as data: names, kinds and keys of columns, rows as typed structs, values on their way to a store.
//! Knows no store and no projection; a store reads [`Table`]s and has no code for any one of them.

use crate::text::{Name, Tokens};
use burnlog_log::{Address, Error, ErrorKind, Result, Timestamp};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::Hasher;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// A whole number.
    Integer,
    /// Microseconds since 1970-01-01T00:00:00Z, as a whole number.
    Instant,
    /// 0 or 1.
    Flag,
    /// Text that is different in almost every row.
    Text,
    /// Text of which there are few; outside the key a store may keep it once and point to it.
    Name,
    /// Bytes.
    Blob,
    /// The 32 bytes of an event's address.
    Address,
}

/// A column of a [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name; lower case with underscores, safe in SQL.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether a value may be absent.
    pub nullable: bool,
}

impl Column {
    /// Returns the name under which a store's views show the column to people. `None` for what only decides which of
    /// several records a row is kept from.
    pub fn view_name(&self) -> Option<&'static str> {
        match self.name {
            "payload_prefix" | "text_prefix" | "project_place" | "project_seq" | "title_place"
            | "version_seq" | "first_record_seq" | "beginning" => None,
            "place" => Some("address"),
            "result_place" => Some("result_address"),
            name => Some(name),
        }
    }
}

/// A table of a projection. The first `key` columns are the semantic key; none of them is nullable.
#[derive(Debug)]
pub struct Table {
    /// The name; lower case with underscores, stable.
    pub name: &'static str,
    /// The columns, key first.
    pub columns: &'static [Column],
    /// How many columns make up the key.
    pub key: usize,
    /// Further access paths, each a list of column names.
    pub indexes: &'static [&'static [&'static str]],
    /// Whether rows are short, though their columns need not be: a store may keep them in the index of their key.
    pub short: bool,
    /// Whether `project dump` shows the rows. What depends on who recorded what, and when, is not shown.
    pub dumped: bool,
}

impl Table {
    /// Returns the position of the column of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Returns the columns of the key.
    pub fn key_columns(&self) -> &'static [Column] {
        &self.columns[..self.key]
    }
}

/// A value of a column, borrowed on the way into a store, owned on the way out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// For [`ColumnKind::Integer`], [`ColumnKind::Instant`] and [`ColumnKind::Flag`].
    Integer(i64),
    /// For [`ColumnKind::Text`] and [`ColumnKind::Name`].
    Text(Cow<'a, str>),
    /// For [`ColumnKind::Name`], from a store that shares names.
    Name(Name),
    /// For [`ColumnKind::Blob`] and [`ColumnKind::Address`].
    Blob(Cow<'a, [u8]>),
}

impl Value<'_> {
    /// Returns the value with nothing borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(number),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Name(name) => Value::Name(name),
            Self::Blob(bytes) => Value::Blob(Cow::Owned(bytes.into_owned())),
        }
    }
}

/// The values of one row, in the order of the table's columns.
pub type Values = Vec<Value<'static>>;

/// A row as a typed struct. Implemented by the `row!` macro.
pub trait Row: Clone + PartialEq + Sized + 'static {
    /// The table that keeps these rows.
    const TABLE: &'static Table;

    /// Appends the values of the row to `out`, in the order of the columns.
    fn write<'a>(&'a self, out: &mut Vec<Value<'a>>);

    /// Makes a row of the values of one. `Corrupt` when a value is not of its column's kind.
    fn read(values: Values) -> Result<Self>;

    /// Feeds the key to a hasher.
    fn hash_key(&self, state: &mut impl Hasher);

    /// Compares by key, bytewise, column by column.
    fn compare_key(&self, other: &Self) -> Ordering;
}

/// A row that is a fact: what several records say of one thing is joined.
///
/// `merge` is commutative, associative and idempotent, so that neither order nor repetition matters.
pub trait Merge: Row {
    /// Joins what `other` says about the same key into `self`.
    fn merge(&mut self, other: Self);

    /// Derives from a fact that appeared (`old` is `None`) or changed what depends on it.
    fn changed(old: Option<&Self>, new: &Self, derived: &mut crate::Derived);
}

/// A row that is a sum over facts. Each delta is made exactly once, in the transaction that changes the fact.
pub trait Rollup: Row {
    /// Adds a delta to the same key. Commutative and associative, not idempotent.
    fn apply(&mut self, delta: &Self);

    /// Returns whether nothing is counted any more, so that the row goes.
    fn is_empty(&self) -> bool;
}

/// A Rust type that can stand in a column.
pub trait ColumnType: Sized {
    /// The kind of its columns.
    const KIND: ColumnKind;
    /// Whether its columns are nullable.
    const NULLABLE: bool = false;

    /// Returns the value to store.
    fn to_value(&self) -> Value<'_>;

    /// Takes back a stored value; `None` when it is of another kind.
    fn of_value(value: Value<'static>) -> Option<Self>;
}

impl<T: ColumnType> ColumnType for Option<T> {
    const KIND: ColumnKind = T::KIND;
    const NULLABLE: bool = true;

    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, T::to_value)
    }

    fn of_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::of_value(value).map(Some),
        }
    }
}

macro_rules! column_type {
    ($type:ty, $kind:ident, |$this:ident| $to:expr, $pattern:pat => $of:expr) => {
        impl ColumnType for $type {
            const KIND: ColumnKind = ColumnKind::$kind;

            fn to_value(&self) -> Value<'_> {
                let $this = self;
                $to
            }

            fn of_value(value: Value<'static>) -> Option<Self> {
                match value {
                    $pattern => $of,
                    _ => None,
                }
            }
        }
    };
}

column_type!(i64, Integer, |it| Value::Integer(*it), Value::Integer(number) => Some(number));
column_type!(bool, Flag, |it| Value::Integer(i64::from(*it)), Value::Integer(number) => Some(number != 0));
column_type!(Tokens, Integer, |it| Value::Integer(it.0), Value::Integer(number) => Some(Tokens(number)));
column_type!(Timestamp, Instant, |it| Value::Integer(it.as_micros()),
    Value::Integer(micros) => Some(Timestamp::from_micros(micros)));
column_type!(String, Text, |it| Value::Text(Cow::Borrowed(it)), Value::Text(text) => Some(text.into_owned()));
column_type!(Vec<u8>, Blob, |it| Value::Blob(Cow::Borrowed(it)), Value::Blob(bytes) => Some(bytes.into_owned()));
column_type!(Address, Address, |it| Value::Blob(Cow::Borrowed(&it.0)),
    Value::Blob(bytes) => <[u8; 32]>::try_from(&*bytes).ok().map(Address));

impl ColumnType for Name {
    const KIND: ColumnKind = ColumnKind::Name;

    fn to_value(&self) -> Value<'_> {
        Value::Text(Cow::Borrowed(self))
    }

    fn of_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Name(name) => Some(name),
            Value::Text(text) => Some(Self::from(&*text)),
            _ => None,
        }
    }
}

/// Takes the next of a row's values as a column of type `T`.
pub(crate) fn take<T: ColumnType>(values: &mut std::vec::IntoIter<Value<'static>>, place: &str) -> Result<T> {
    values.next().and_then(T::of_value).ok_or_else(|| {
        let message = "the stored value is not of the column's kind; rebuild the projections from the log";
        Error::new(ErrorKind::Corrupt, "read projection row", message).at(place)
    })
}

/// Declares a row: the struct, its table and the conversions. Fields of the `key` come first.
macro_rules! row {
    (
        $(#[$doc:meta])*
        pub struct $row:ident in $table:literal $(indexes $indexes:tt)? $(short $short:literal)? dumped $dumped:literal
        key { $($(#[$key_doc:meta])* $key:ident: $key_type:ty,)+ }
        $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)*
        $(@transient { $($(#[$kept_doc:meta])* $kept:ident: $kept_type:ty,)+ })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $row {
            $($(#[$key_doc])* pub $key: $key_type,)+
            $($(#[$field_doc])* pub $field: $field_type,)*
            $($($(#[$kept_doc])* pub $kept: $kept_type,)+)?
        }

        impl $crate::table::Row for $row {
            const TABLE: &'static $crate::table::Table = &$crate::table::Table {
                name: $table,
                columns: &[
                    $($crate::table::row!(@column $key: $key_type),)+
                    $($crate::table::row!(@column $field: $field_type),)*
                ],
                key: [$(stringify!($key)),+].len(),
                indexes: $crate::table::row!(@indexes $($indexes)?),
                short: $crate::table::row!(@short $($short)?),
                dumped: $dumped,
            };

            fn write<'a>(&'a self, out: &mut Vec<$crate::table::Value<'a>>) {
                $(out.push($crate::table::ColumnType::to_value(&self.$key));)+
                $(out.push($crate::table::ColumnType::to_value(&self.$field));)*
            }

            fn read(values: $crate::table::Values) -> burnlog_log::Result<Self> {
                let mut values = values.into_iter();
                Ok(Self {
                    $($key: $crate::table::take(&mut values, concat!($table, ".", stringify!($key)))?,)+
                    $($field: $crate::table::take(&mut values, concat!($table, ".", stringify!($field)))?,)*
                    $($($kept: Default::default(),)+)?
                })
            }

            fn hash_key(&self, state: &mut impl std::hash::Hasher) {
                use std::hash::Hash;
                $(self.$key.hash(state);)+
            }

            fn compare_key(&self, other: &Self) -> std::cmp::Ordering {
                std::cmp::Ordering::Equal$(.then_with(|| self.$key.cmp(&other.$key)))+
            }
        }
    };
    (@column $name:ident: $type:ty) => {
        $crate::table::Column {
            name: stringify!($name),
            kind: <$type as $crate::table::ColumnType>::KIND,
            nullable: <$type as $crate::table::ColumnType>::NULLABLE,
        }
    };
    (@short) => { false };
    (@short $short:literal) => { $short };
    (@indexes) => { &[] };
    (@indexes [$([$($column:literal),+]),*]) => { &[$(&[$($column),+]),*] };
}
pub(crate) use row;
