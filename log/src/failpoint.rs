//! Named points at which a test ends the process at once, as a kill would. Without the feature `failpoints` a point is
//! nothing; with it, too, unless the program arms one. Reads no environment: which point is armed is the program's affair.

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        /// How often the point is still passed.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Arms one point for the life of the process: `name` for its first passing, `name:n` for the n-th. Only the first call counts.
    pub fn arm_failpoint(point: &str) {
        let (name, passing) = match point.split_once(':') {
            Some((name, passing)) => (name, passing.parse().unwrap_or(1)),
            None => (point, 1),
        };
        let _ = ARMED.set(Armed { name: name.to_owned(), left: AtomicU64::new(passing) });
    }

    /// Ends the process here if this is the passing that was asked for.
    pub fn failpoint(name: &'static str) {
        let Some(armed) = ARMED.get().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}

#[cfg(feature = "failpoints")]
pub use armed::{arm_failpoint, failpoint};

/// A point at which a test can end the process; nothing without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn failpoint(_: &'static str) {}
