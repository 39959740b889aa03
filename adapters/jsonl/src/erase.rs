//! Erasing: noting durably which payloads must not be read any more. Their bytes go when the ledger is compacted.

use crate::store::Store;
use burnlog_log::{Address, Error, ErrorKind, Limit, Result};
use std::sync::Arc;

impl Store {
    /// Erases payloads; see [`burnlog_log::Backend::erase`].
    pub(crate) fn erase(&self, addresses: &[Address]) -> Result<()> {
        self.writable("erase")?;
        // The lengths are read before the lock is taken: events neither change nor vanish.
        let mut lengths = Vec::with_capacity(addresses.len());
        for address in addresses {
            let body = self.get(&[*address], Limit { entries: 1, bytes: 1 })?.pop().flatten();
            let bytes = match body {
                Some(burnlog_log::Body::Present { payload, .. }) => payload.len() as u64,
                // Damaged payloads are erased as well: whoever can read the disk could read what is left of them.
                Some(_) => 0,
                None => {
                    return Err(Error::new(ErrorKind::NotFound, "erase", "no such event").at(address));
                }
            };
            lengths.push((*address, bytes));
        }
        self.exclusively(|state| {
            let erased = crate::erased::Erased::read(self.files(), &self.folder)?;
            state.erased = Arc::new(erased.add(self.files(), &self.folder, &lengths)?);
            state.version += 1;
            state.changes = Some(self.lock.count()?);
            Ok(())
        })
    }
}
