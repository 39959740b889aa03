//! Who may do what: bearer tokens in a file of this host, kept as hashes. The file is read again whenever it changes, so
//! making and revoking a token needs no restart.
//!
//! A token is 256 random bits. One SHA-256 is enough to keep it: there is nothing to guess that a slow hash would make dearer.

use burnlog_http::{Rights, Scope};
use burnlog_log::{Error, ErrorKind, Result, Timestamp, parse_hex, push_hex};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use subtle::ConstantTimeEq;

/// What every token begins with, so that people and scanners of leaked secrets know it.
const PREFIX: &str = "burnlog_";
/// The version of the file.
const VERSION: u32 = 1;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenRecord {
    /// The first digits of the hash: how a person names the token.
    pub id: String,
    /// SHA-256 of the token, in hex.
    pub sha256: String,
    /// A label for people.
    pub name: Option<String>,
    /// The names of its scopes.
    pub scopes: Vec<String>,
    /// The one ledger that it is for; all of them without.
    pub ledger: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct File {
    version: u32,
    tokens: Vec<TokenRecord>,
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// A label for people.
    pub name: Option<String>,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// The one ledger that it is for.
    pub ledger: Option<String>,
    /// Now.
    pub created_at: Timestamp,
}

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// There are no tokens: everything, from this machine.
    Open,
    /// A token that is known.
    Granted {
        /// Its id.
        id: String,
        /// What it allows.
        rights: Rights,
        /// The one ledger that it is for.
        ledger: Option<String>,
    },
    /// A token that is not taken any more.
    Revoked {
        /// Its id.
        id: String,
    },
    /// No token, or none that is known.
    Unknown,
}

/// The tokens of a server.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Vec<TokenRecord>)>>,
}

/// What tells that a file changed: device, inode, size, modification and change time.
type Stamp = Option<(u64, u64, u64, i64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec()))
}

fn failed(operation: &'static str, path: &Path, message: &str) -> Error {
    Error::new(ErrorKind::Denied, operation, message.to_owned()).at(path.display())
}

impl Tokens {
    /// Takes the file; it need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::new(None) }
    }

    /// Returns every token that was ever made.
    ///
    /// `Denied` when the file cannot be read or is none: nobody is let in by a file that says nothing.
    pub fn list(&self) -> Result<Vec<TokenRecord>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before reading: a change in between is seen next time.
        let now = stamp(&self.path);
        if let Some((at, tokens)) = read.as_ref().filter(|(at, _)| *at == now) {
            debug_assert_eq!(*at, now, "filtered");
            return Ok(tokens.clone());
        }
        let tokens = self.load()?;
        *read = Some((now, tokens.clone()));
        Ok(tokens)
    }

    fn load(&self) -> Result<Vec<TokenRecord>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(failed("read tokens", &self.path, "the file cannot be read").caused_by(error));
            }
        };
        let file: File = serde_json::from_slice(&text).map_err(|error| {
            failed("read tokens", &self.path, "the file of tokens is damaged; nobody is let in")
                .caused_by(error)
        })?;
        if file.version > VERSION {
            let message = format!("the file has version {}; upgrade burnlog", file.version);
            return Err(Error::new(ErrorKind::Unsupported, "read tokens", message).at(self.path.display()));
        }
        Ok(file.tokens)
    }

    /// Makes a token and returns it with its record: it is shown once and kept nowhere.
    pub fn create(&self, new: NewToken) -> Result<(String, TokenRecord)> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| {
            let message = "this system gives no random bytes";
            Error::new(ErrorKind::Unavailable, "create token", message).caused_by(error.to_string())
        })?;
        let token = format!("{PREFIX}{}", hex(&secret));
        let sha256 = hex(&Sha256::digest(token.as_bytes()));
        let record = TokenRecord {
            id: sha256[..12].to_owned(),
            sha256,
            name: new.name,
            scopes: new.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            ledger: new.ledger,
            created_at: new.created_at,
            revoked_at: None,
        };
        let kept = record.clone();
        self.change(move |tokens| {
            tokens.push(kept);
            Ok(())
        })?;
        Ok((token, record))
    }

    /// Revokes the token with this id, or a unique prefix of one. `NotFound` when there is none.
    pub fn revoke(&self, id: &str, now: Timestamp) -> Result<TokenRecord> {
        let path = self.path.clone();
        self.change(move |tokens| {
            let mut named = tokens.iter_mut().filter(|token| !id.is_empty() && token.id.starts_with(id));
            let (Some(token), None) = (named.next(), named.next()) else {
                let message =
                    format!("{id:?} is the beginning of no or of several ids; see burnlog token list");
                return Err(Error::new(ErrorKind::NotFound, "revoke token", message).at(path.display()));
            };
            token.revoked_at.get_or_insert(now);
            Ok(token.clone())
        })
    }

    /// Reads, changes and replaces the file, one process at a time.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<TokenRecord>) -> Result<T>) -> Result<T> {
        let operation = "write tokens";
        let io = |message: &'static str| {
            move |error: std::io::Error| failed(operation, &self.path, message).caused_by(error)
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(io("the folder cannot be made"))?;
        }
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(io("the lock cannot be made"))?;
        lock.lock().map_err(io("the lock cannot be taken"))?;
        let mut tokens = self.load()?;
        let done = change(&mut tokens)?;
        let text = serde_json::to_vec_pretty(&File { version: VERSION, tokens })
            .expect("texts and instants are JSON");
        let new = self.path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .map_err(io("the file cannot be written"))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io("the file cannot be written"))?;
        fs::rename(&new, &self.path).map_err(io("the file cannot be replaced"))?;
        Ok(done)
    }

    /// Tells what the value of an `authorization` header allows.
    pub(crate) fn access(&self, authorization: Option<&str>) -> Result<Access> {
        let tokens = self.list()?;
        if tokens.is_empty() {
            return Ok(Access::Open);
        }
        let given = authorization.and_then(|text| text.split_once(' '));
        let Some((_, token)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Ok(Access::Unknown);
        };
        let hash: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        // Every record is compared in full, whichever fits: the time tells nothing.
        let mut found = Access::Unknown;
        for record in &tokens {
            let mut kept = [0; 32];
            let is_hash = parse_hex(record.sha256.as_bytes(), &mut kept);
            if bool::from(hash.ct_eq(&kept)) && is_hash {
                found = granted(record);
            }
        }
        Ok(found)
    }
}

/// What a token allows.
fn granted(record: &TokenRecord) -> Access {
    let id = record.id.clone();
    if record.revoked_at.is_some() {
        return Access::Revoked { id };
    }
    let scopes: Vec<Scope> = record.scopes.iter().filter_map(|name| Scope::of_name(name)).collect();
    Access::Granted { id, rights: Rights::of(&scopes), ledger: record.ledger.clone() }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    String::from_utf8(text).expect("hex is ASCII")
}
