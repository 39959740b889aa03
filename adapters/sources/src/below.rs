//! Whether a path is below another. `Path::starts_with` takes both apart; here that is done where the bytes do not tell, which matters to
//! an ingest of one file among thousands.

use memchr::memmem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// As `path.starts_with(root)`.
pub(crate) fn is_below(path: &Path, root: &Path) -> bool {
    below(root)(path)
}

/// As [`is_below`], for many paths and one root.
pub(crate) fn below(root: &Path) -> impl Fn(&Path) -> bool {
    let root_bytes = root.as_os_str().as_bytes();
    let is_odd_root = is_odd(root_bytes);
    move |path| {
        let bytes = path.as_os_str().as_bytes();
        match bytes.strip_prefix(root_bytes) {
            _ if is_odd_root => path.starts_with(root),
            Some([] | [b'/', ..]) => true,
            _ => is_odd(bytes) && path.starts_with(root),
        }
    }
}

/// Whether the same path can be written in fewer bytes, but for a name that ends it.
pub(crate) fn is_odd(path: &[u8]) -> bool {
    let ends_oddly = path.ends_with(b"/") || path.ends_with(b"/.") || path.is_empty();
    ends_oddly
        || path.starts_with(b"./")
        || memmem::find(path, b"//").is_some()
        || memmem::find(path, b"/./").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/"),
            Just("//"),
            Just("."),
            Just(".."),
            Just("a"),
            Just("ab"),
            Just(".a"),
            Just("a.")
        ];
        proptest::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn it_is_what_the_library_says(root in path(), rest in path(), other in path()) {
            for path in [format!("{root}{rest}"), format!("{root}/{rest}"), other] {
                let (path, root) = (Path::new(&path), Path::new(&root));
                prop_assert_eq!(is_below(path, root), path.starts_with(root), "{:?} {:?}", path, root);
            }
        }
    }
}
