//! A ledger with its projections, as the server holds it.

use crate::folds::Folds;
use burnlog_http::Asked;
use burnlog_log::{Ledger, Result};
#[cfg(feature = "conformance")]
use burnlog_projections::MemoryProjections;
use burnlog_projections::{FoldLimits, FoldStore, Queries};
use std::sync::{Arc, Mutex, PoisonError};

/// Opens the projections that go with a ledger. The server knows no store.
pub trait Projections: Send + Sync {
    /// Opens them for folding. Called on the thread that folds.
    fn folding(&self) -> Result<Box<dyn FoldStore>>;

    /// How they are folded beside others who fold into them.
    fn limits(&self) -> FoldLimits;

    /// Opens them for questions. `NotFound` before the first fold.
    fn asking(&self) -> Result<Box<dyn Queries + Send>>;

    /// Writes one of the lists that people ask for, as JSON lines. Which fields a row has is the caller's to know.
    fn lines(&self, asked: &Asked, queries: &dyn Queries) -> Result<Vec<u8>>;
}

/// Rows in memory, for tests and measurements. A list says only which one it is: it has no fields of its own.
#[cfg(feature = "conformance")]
impl Projections for MemoryProjections {
    fn folding(&self) -> Result<Box<dyn FoldStore>> {
        Ok(Box::new(self.clone()))
    }

    fn limits(&self) -> FoldLimits {
        FoldLimits::default()
    }

    fn asking(&self) -> Result<Box<dyn Queries + Send>> {
        Ok(Box::new(self.clone()))
    }

    fn lines(&self, asked: &Asked, _queries: &dyn Queries) -> Result<Vec<u8>> {
        Ok(format!("{{\"list\":{:?}}}\n", asked.operation.name()).into_bytes())
    }
}

/// A ledger to be served.
pub struct ProjectedLedger {
    /// The name in the URL.
    pub name: String,
    /// The ledger.
    pub ledger: Ledger,
    /// Its projections.
    pub projections: Arc<dyn Projections>,
}

/// The most readers of projections that are kept open for the next question.
const READERS_MAX: usize = 8;

/// A ledger that is served.
pub struct Hosted {
    pub(crate) ledger: Ledger,
    pub(crate) folds: Folds,
    projections: Arc<dyn Projections>,
    readers: Mutex<Vec<Box<dyn Queries + Send>>>,
}

impl Hosted {
    /// Starts the folds of a ledger.
    pub(crate) fn start(served: ProjectedLedger) -> Result<Self> {
        let ProjectedLedger { name, ledger, projections } = served;
        let folds = Folds::start(&name, ledger.clone(), Arc::clone(&projections))?;
        Ok(Self { ledger, folds, projections, readers: Mutex::default() })
    }

    /// Asks the projections with a reader of their own: readers of several questions do not wait for each other.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&dyn Queries) -> Result<T>) -> Result<T> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match kept {
            Some(reader) if !reader.is_replaced() => reader,
            _ => self.projections.asking()?,
        };
        let answer = question(&*reader)?;
        // After an error the reader is not kept: what failed may be the reader.
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_MAX {
            readers.push(reader);
        }
        Ok(answer)
    }

    /// Writes one of the lists that people ask for.
    pub(crate) fn lines(&self, asked: &Asked) -> Result<Vec<u8>> {
        self.ask(|queries| self.projections.lines(asked, queries))
    }
}
