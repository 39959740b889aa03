//! `host/config.json`: what a person sets once for this machine.

use crate::files::read;
use burnlog_log::{Error, ErrorKind, Result};
use std::path::Path;

/// The configuration of this host. Every field may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The label of this host; the environment goes before it.
    pub host_name: Option<String>,
    /// Projects to take in, as globs over their working directory; all where empty.
    pub include: Vec<String>,
    /// Projects to leave out; goes before `include`.
    pub exclude: Vec<String>,
    /// The ledger that `push` and `run` push to, as a store URL; the command line and the environment go before it.
    pub push_to: Option<String>,
}

impl Config {
    /// Loads the file; the default where there is none. `Invalid`, with line and column, for a file that does not fit.
    pub fn load(path: &Path) -> Result<Self> {
        let Some(bytes) = read(path)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            let message =
                "not a configuration; fix or remove it (fields: host_name, include, exclude, push_to)";
            Error::new(ErrorKind::Invalid, "read configuration", message)
                .at(format_args!("{}:{}:{}", path.display(), error.line(), error.column()))
                .caused_by(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        std::fs::write(&path, "{\"exclude\":[\"/secret/*\"]}").unwrap();
        assert_eq!(Config::load(&path).unwrap().exclude, ["/secret/*"]);
        std::fs::write(&path, "{\n\"exlude\":[]}").unwrap();
        let error = Config::load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.location().contains("config.json:2:"), "{error}");
    }
}
