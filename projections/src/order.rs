//! Small orders that several rows choose by.

use burnlog_log::Timestamp;

/// Orders an absent instant after all others.
pub(crate) fn absent_last(instant: Option<Timestamp>) -> (bool, Option<Timestamp>) {
    (instant.is_none(), instant)
}
