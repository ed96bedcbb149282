//! Answers of hostcalls (proxy-wasm ABI 0.2.1, `proxy_status_t`).

/// What a hostcall answers instead of "ok".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    pub const NOT_FOUND: Self = Self(1);
    pub const BAD_ARGUMENT: Self = Self(2);
    pub const INVALID_MEMORY_ACCESS: Self = Self(6);
    pub const EMPTY: Self = Self(7);
    pub const CAS_MISMATCH: Self = Self(8);
}

/// A hostcall's answer.
pub type Answered = Result<(), Status>;
