//! The suite over files, reopened as the cases ask for.

use burnlog_projections::conformance::{Fixture, Store};
use burnlog_sqlite::{SqliteOptions, SqliteProjections};

struct Sqlite(tempfile::TempDir);

impl Fixture for Sqlite {
    fn create() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    fn open(&self) -> Box<dyn Store> {
        let path = self.0.path().join("projections.sqlite");
        Box::new(SqliteProjections::open(&path, &SqliteOptions::default()).expect("the file opens"))
    }
}

burnlog_projections::fold_store_conformance!(Sqlite);
