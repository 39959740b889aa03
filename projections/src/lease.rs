//! Who may fold: a lease by the store's clock, with a token that grows with each grant, and how long one waits for it.

use crate::store::FoldStore;
use burnlog_log::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// The right to write to a store's projections, until its time is over or it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The number of the grant: whoever has a smaller one than the last cannot write.
    pub token: u64,
    /// How long it lasts from each grant, renewal and commit on.
    pub time_to_live: Duration,
}

/// What a store answers to whoever asks for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leasing {
    /// It is yours.
    Granted(Lease),
    /// Another has it, and its time is not over.
    Held {
        /// What the other gave as its name.
        holder: String,
        /// The number of its grant.
        token: u64,
        /// How long it still has, if it does not renew it.
        remaining: Duration,
    },
}

/// How a [`Projector`](crate::Projector) holds the lease, and how it waits for it.
#[derive(Clone)]
pub struct LeaseTerms {
    /// Who this is, for people: a host and a process.
    pub holder: String,
    /// How long the lease lasts when nothing is heard of the holder: longer than a page of the ledger takes to read and fold.
    pub time_to_live: Duration,
    /// How often the lease is asked for.
    pub attempts_max: u32,
    /// Waits before it is asked for again; the argument counts the times, from 0.
    pub pause: Arc<dyn Fn(u32) + Send + Sync>,
    /// Whether a holder of this name is known to be gone for good, so that nobody has to wait for its time to be over.
    /// An error costs double work and nothing else.
    pub is_gone: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Default for LeaseTerms {
    /// 30 s; asked for once, without waiting; nobody is known to be gone.
    fn default() -> Self {
        Self {
            holder: "burnlog".to_owned(),
            time_to_live: Duration::from_secs(30),
            attempts_max: 1,
            pause: Arc::new(|_| {}),
            is_gone: Arc::new(|_| false),
        }
    }
}

impl std::fmt::Debug for LeaseTerms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LeaseTerms({:?}, {:?}, {} times)", self.holder, self.time_to_live, self.attempts_max)
    }
}

impl LeaseTerms {
    /// Asks for the lease up to `attempts_max` times. `InUse`, with the holder's name, when another has it to the end.
    pub(crate) fn acquire(&self, store: &mut dyn FoldStore, attempts_max: u32) -> Result<Lease> {
        let mut gone = None;
        let mut attempt = 0;
        loop {
            let (holder, token) = match store.lease(&self.holder, self.time_to_live, gone)? {
                Leasing::Granted(lease) => return Ok(lease),
                Leasing::Held { holder, token, .. } => (holder, token),
            };
            // Once for each holder: whoever came since may be alive.
            if gone != Some(token) && (self.is_gone)(&holder) {
                gone = Some(token);
                continue;
            }
            attempt += 1;
            if attempt >= attempts_max {
                let message =
                    format!("{holder} is folding into these projections; try again when it is done");
                return Err(Error::new(ErrorKind::InUse, "fold", message).at(store.location()));
            }
            (self.pause)(attempt - 1);
        }
    }
}
