//! Failures as values, so that a test can go on and tell of all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `run` answers, or the message that it panicked with.
pub fn attempt<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic
            .downcast::<&str>()
            .map_or_else(|_| "a panic".to_owned(), |text| (*text).to_owned()),
    })
}
