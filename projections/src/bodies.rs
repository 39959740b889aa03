//! Events by address, as many as there are: a ledger hands out a page at a time.

use burnlog_log::{Address, Body, Ledger, Limit, Result};

/// Calls `each` with events in the order asked for, until it returns false. Addresses that the ledger does not have come as `None`.
pub(crate) fn for_each_body(
    ledger: &Ledger,
    mut addresses: &[Address],
    page: Limit,
    each: &mut dyn FnMut(Address, Option<Body>) -> Result<bool>,
) -> Result<()> {
    while !addresses.is_empty() {
        let bodies = ledger.get(addresses, page)?;
        if bodies.is_empty() {
            break;
        }
        let (these, others) = addresses.split_at(bodies.len().min(addresses.len()));
        for (address, body) in these.iter().zip(bodies) {
            if !each(*address, body)? {
                return Ok(());
            }
        }
        addresses = others;
    }
    Ok(())
}
