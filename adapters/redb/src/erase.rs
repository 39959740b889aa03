//! Erasing: marks payloads in the directories of their blocks. The bytes go when the ledger is compacted.

use crate::block::write_directory;
use crate::fault::Fail;
use crate::locate::{Directories, Located, locate};
use crate::read::read_state;
use crate::tables::{BLOCKS, EVENTS, META, TWINS};
use burnlog_log::{Address, Error, ErrorKind};
use redb::WriteTransaction;
use std::collections::BTreeMap;

/// Marks the payloads of `addresses`, all or none.
pub(crate) fn erase(txn: &WriteTransaction, addresses: &[Address]) -> Result<(), Fail> {
    let mut blocks = txn.open_table(BLOCKS)?;
    let mut touched: BTreeMap<u64, Vec<Located>> = BTreeMap::new();
    {
        let (events, twins) = (txn.open_table(EVENTS)?, txn.open_table(TWINS)?);
        let mut directories = Directories::default();
        for address in addresses {
            let located = locate(&events, &twins, &blocks, &mut directories, address)?
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "erase", "no such event").at(address))?;
            touched.entry(located.first).or_default().push(located);
        }
    }
    let mut meta = txn.open_table(META)?;
    let mut state = read_state(&meta)?;
    for (first, located) in touched {
        let mut directory = (*located[0].directory).clone();
        for slot in located.iter().map(Located::slot) {
            if let Err(place) = directory.erased.binary_search(&(slot as u32)) {
                directory.erased.insert(place, slot as u32);
                let bytes = u64::from(directory.lengths[slot].payload);
                state.payload_bytes = state.payload_bytes.saturating_sub(bytes);
                state.erased_bytes += bytes;
            }
        }
        write_directory(&mut blocks, first, &directory)?;
    }
    meta.insert("state", state.encode().as_slice())?;
    Ok(())
}
