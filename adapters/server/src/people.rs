//! The lists that people ask for with any HTTP program: JSON lines with the fields of the command line.

use crate::hosted::Hosted;
use burnlog_http::Asked;
use burnlog_log::{Error, ErrorKind, Result};

/// Answers one of the lists.
pub(crate) fn lines(_hosted: &Hosted, asked: &Asked) -> Result<Vec<u8>> {
    Err(Error::new(ErrorKind::Unsupported, asked.operation.name(), "not here yet"))
}
