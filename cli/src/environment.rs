//! What the environment says to the commands. Only the width of tables is asked for elsewhere, in `output.rs`.

use burnlog_host::{Config, Home, parse_key};
use burnlog_http::HttpOptions;
use burnlog_log::{Error, ErrorKind, Result, Timestamp, WriterKey};
use std::env;
use std::path::PathBuf;
use std::time::SystemTime;

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// What the environment says.
#[derive(Clone)]
pub(crate) struct Environment {
    /// The user's home, where agents keep their sessions.
    user_home: Option<PathBuf>,
    /// Where our own state is.
    pub(crate) home: Home,
    /// `RELAYBURN_STORAGE`.
    pub(crate) storage: Option<String>,
    /// `RELAYBURN_REDB_PATH`.
    redb_path: Option<PathBuf>,
    /// `RELAYBURN_SQLITE_PATH`.
    sqlite_path: Option<PathBuf>,
    /// `RELAYBURN_POSTGRES_URL`. Holds secrets: never printed.
    pub(crate) postgres_url: Option<String>,
    /// `RELAYBURN_HTTP_URL`.
    pub(crate) http_url: Option<String>,
    /// `RELAYBURN_PUSH_URL`. May hold secrets: never printed.
    pub(crate) push_url: Option<String>,
    /// `RELAYBURN_HOST_NAME`.
    pub(crate) host_name: Option<String>,
    /// `RELAYBURN_WRITER_KEY`.
    pub(crate) writer_key: Option<String>,
}

impl Environment {
    /// Reads it. An empty variable counts as unset. `Invalid` when it does not say where our own state is.
    pub(crate) fn read() -> Result<Self> {
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let user_home = path("HOME");
        let home = path("RELAYBURN_HOME").or_else(|| Some(user_home.as_ref()?.join(".relayburn")));
        let home = home.ok_or_else(|| {
            let message = "neither HOME nor RELAYBURN_HOME is set; set one of them";
            Error::new(ErrorKind::Invalid, "read environment", message)
        })?;
        Ok(Self {
            user_home,
            home: Home::new(home),
            storage: text("RELAYBURN_STORAGE"),
            redb_path: path("RELAYBURN_REDB_PATH"),
            sqlite_path: path("RELAYBURN_SQLITE_PATH"),
            postgres_url: text("RELAYBURN_POSTGRES_URL"),
            http_url: text("RELAYBURN_HTTP_URL"),
            push_url: text("RELAYBURN_PUSH_URL"),
            host_name: text("RELAYBURN_HOST_NAME"),
            writer_key: text("RELAYBURN_WRITER_KEY"),
        })
    }

    /// Where the redb ledger is.
    pub(crate) fn redb_path(&self) -> PathBuf {
        self.redb_path.clone().unwrap_or_else(|| self.home.folder().join("ledger.redb"))
    }

    /// Where the SQLite ledger is.
    pub(crate) fn sqlite_path(&self) -> PathBuf {
        self.sqlite_path.clone().unwrap_or_else(|| self.home.folder().join("ledger.sqlite"))
    }

    /// What says where the sources keep their sessions.
    pub(crate) fn sources(&self) -> burnlog_sources::Environment {
        let set = |name: &str| env::var_os(name).map(|value| (name.to_owned(), value));
        burnlog_sources::Environment {
            home: self.user_home.clone(),
            variables: burnlog_sources::variables().filter_map(set).collect(),
        }
    }

    /// The label of this host: the environment, the configuration, the system.
    pub(crate) fn host_name(&self, config: &Config) -> String {
        let system = || gethostname::gethostname().to_string_lossy().into_owned();
        self.host_name.clone().or_else(|| config.host_name.clone()).unwrap_or_else(system)
    }

    /// The writer key that the environment gives to this process. `Invalid` when it is not a key.
    pub(crate) fn given_key(&self) -> Result<Option<WriterKey>> {
        let Some(text) = &self.writer_key else { return Ok(None) };
        parse_key(text.trim().as_bytes()).map(Some).ok_or_else(|| {
            let message = "RELAYBURN_WRITER_KEY is not 64 hex digits; set it to a writer key, or unset it";
            Error::new(ErrorKind::Invalid, "open feed", message)
        })
    }
}

/// What the environment says about connections to servers: `RELAYBURN_HTTP_TOKEN` or a file that
/// `RELAYBURN_HTTP_TOKEN_FILE` names, `RELAYBURN_HTTP_CA_FILE`, `RELAYBURN_HTTP_PLAIN`.
pub(crate) fn http_options() -> Result<HttpOptions> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let token = match (env::var("RELAYBURN_HTTP_TOKEN").ok(), set("RELAYBURN_HTTP_TOKEN_FILE")) {
        (Some(token), _) if !token.is_empty() => Some(token),
        (_, Some(path)) => {
            let text = std::fs::read_to_string(&path).map_err(|error| {
                let message = "the file of RELAYBURN_HTTP_TOKEN_FILE cannot be read";
                Error::new(ErrorKind::Denied, "open ledger", message)
                    .at(PathBuf::from(&path).display())
                    .caused_by(error)
            })?;
            Some(text.trim().to_owned())
        }
        _ => None,
    };
    Ok(HttpOptions {
        token,
        ca_file: set("RELAYBURN_HTTP_CA_FILE").map(PathBuf::from),
        allow_plain: set("RELAYBURN_HTTP_PLAIN").is_some_and(|value| value == "allow"),
        ..HttpOptions::default()
    })
}

/// Returns the point at which a test wants the program to end: `name` or `name:n`.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint() -> Option<String> {
    std::env::var("BURNLOG_FAILPOINT").ok()
}
