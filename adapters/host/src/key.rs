//! The writer key of this host for one ledger: 32 random bytes as 64 hex digits in a file of mode 0600.

use crate::files::{io_error, read, replace};
use burnlog_log::{Error, ErrorKind, Result, WriterKey, failpoint, parse_hex, push_hex};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Loads the key, or makes it on first use.
///
/// `Denied` when others may read the file (mode 0600 is needed), `Corrupt` when it does not hold a key.
pub fn load_or_create_key(path: &Path) -> Result<WriterKey> {
    let Some(bytes) = read(path)? else { return create(path) };
    let mode =
        fs::metadata(path).map_err(|error| io_error("read key", path, error))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!(
            "the writer key has mode {mode:04o}, others may read it; run chmod 600 on it, or move it away to start a new feed"
        );
        return Err(Error::new(ErrorKind::Denied, "read key", message).at(path.display()));
    }
    parse_key(bytes.trim_ascii()).ok_or_else(|| {
        let message =
            "not a writer key (64 hex digits); put back the right file, or move it away to start a new feed";
        Error::new(ErrorKind::Corrupt, "read key", message).at(path.display())
    })
}

/// Parses the 64 hex digits of a key.
pub fn parse_key(text: &[u8]) -> Option<WriterKey> {
    let mut secret = [0; 32];
    parse_hex(text, &mut secret).then(|| WriterKey::from_secret(secret))
}

/// Makes a new key in place of the old one, which is kept beside it. For a feed that cannot go on.
pub fn rotate_key(path: &Path) -> Result<WriterKey> {
    let kept =
        (1..u32::MAX).map(|number| path.with_extension(format!("key.{number}"))).find(|kept| !kept.exists());
    let kept: PathBuf = kept.expect("no host rotates four billion keys");
    match fs::rename(path, &kept) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("rotate key", path, error))
        }
        _ => create(path),
    }
}

fn create(path: &Path) -> Result<WriterKey> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "make key", "the system gave no random bytes")
            .caused_by(error.to_string())
    })?;
    let mut text = Vec::with_capacity(65);
    push_hex(&mut text, &secret);
    text.push(b'\n');
    failpoint("key-drawn");
    replace(path, &text, true)?;
    failpoint("key-kept");
    Ok(WriterKey::from_secret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("writer.key");
        let key = load_or_create_key(&path).unwrap();
        assert_eq!(load_or_create_key(&path).unwrap().writer(), key.writer());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create_key(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.message().contains("chmod 600"));
    }

    #[test]
    fn a_rotated_key_is_another_and_the_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("writer.key");
        let keys = [load_or_create_key(&path), rotate_key(&path), rotate_key(&path)]
            .map(|key| key.unwrap().writer());
        assert_eq!(load_or_create_key(&path).unwrap().writer(), keys[2]);
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        for (number, writer) in keys[..2].iter().enumerate() {
            let kept = fs::read(path.with_extension(format!("key.{}", number + 1))).unwrap();
            assert_eq!(parse_key(kept.trim_ascii()).unwrap().writer(), *writer);
        }
    }

    #[test]
    fn garbage_is_not_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("writer.key");
        replace(&path, b"not a key", false).unwrap();
        assert_eq!(load_or_create_key(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
