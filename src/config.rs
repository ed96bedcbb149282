//! The plugin's configuration: JSON in, a checked [`Config`] out, or an error that names the key.
//!
//! Unknown keys are refused, never ignored.

mod fields;

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;

use serde_json::{Map, Value};

use self::fields::Fields;

/// What the filter is told to do. The README documents every key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Repair, or only watch.
    pub mode: Mode,
    /// Which paths carry MCP.
    pub paths: Paths,
    /// Whether the headers of a POST may wait for its method.
    pub hold_request_headers: bool,
    /// What becomes of an `initialize` while a session lives.
    pub on_reinitialize: OnReinitialize,
    /// What becomes of a request whose session was lost.
    pub on_session_lost: OnSessionLost,
    /// What becomes of a request of a caller without a session.
    pub on_missing_session: OnMissingSession,
    /// Whether a request goes up without a version that the server refuses.
    pub repair_protocol_version: bool,
    /// Whether requests that meet in one session go up with JSON-RPC ids of the filter's own.
    pub translate_ids: bool,
    /// How a caller is told from others.
    pub caller: CallerConfig,
    /// How long a session is remembered.
    pub session: SessionConfig,
    /// How much is remembered.
    pub memory: MemoryConfig,
    /// Where and how requests of the filter's own go.
    pub subrequest: SubrequestConfig,
    /// The header, in lower case, that names the host of a request's session to the load balancer.
    pub upstream_host_header: Option<String>,
}

/// `mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Change requests.
    Repair,
    /// Count and log what would be done.
    Observe,
}

/// `on_reinitialize`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReinitialize {
    /// It goes up as it is, and opens one more session.
    Forward,
    /// It is answered from the first one: the caller's clients share a session.
    Reuse,
    /// It waits until the server's one session is over, whoever has it.
    Queue,
}

/// `on_session_lost`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSessionLost {
    /// A new session takes its place, and the request is sent again in that one.
    Recover,
    /// It is forgotten, and the client gets the server's answer.
    Forget,
}

/// `on_missing_session`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissingSession {
    /// It goes up as it came.
    Pass,
    /// The filter opens one first, if an `initialize` is remembered.
    Initialize,
}

/// `paths`: exact, or a prefix where one ends in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths(Vec<String>);

impl Paths {
    /// Whether a request's `:path` is among them; its query does not count.
    #[must_use]
    pub fn contain(&self, path: &[u8]) -> bool {
        let path = without_query(path);
        self.0
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix.as_bytes()),
                None => path == pattern.as_bytes(),
            })
    }
}

/// A `:path` up to its query (RFC 9113, 8.3.1).
#[must_use]
pub fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| matches!(byte, b'?' | b'#'))
        .next()
        .unwrap_or_default()
}

/// `caller`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerConfig {
    /// A path into dynamic metadata, its first part the namespace.
    pub metadata: Option<Vec<String>>,
    /// Headers that identify a caller, all that are present together; in lower case.
    pub headers: Vec<String>,
    /// What to do with a request that has none of these.
    pub anonymous: Anonymous,
}

/// `caller.anonymous`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// The address of the peer is the caller.
    ByAddress,
    /// The request passes untouched.
    Refuse,
}

/// `session`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// A session that nobody used for so long is forgotten.
    pub idle_timeout: Duration,
    /// A session that is so old is forgotten.
    pub max_age: Duration,
    /// Without a POST in flight for so long, a session has to make room for one that waits.
    pub lease: Duration,
    /// How many may wait for one session.
    pub queue: u32,
    /// How long one may wait for its turn.
    pub queue_timeout: Duration,
}

/// `memory`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// How many callers are remembered: one key in shared data each.
    pub slots: NonZeroU32,
    /// How many sessions one caller may have.
    pub per_caller: u32,
    /// How many InitializeResults are kept, or servers with a queue: two keys in shared data each.
    pub bulk_slots: NonZeroU32,
    /// How much of a request's body is kept to send it again, in bytes.
    pub replay_bytes: usize,
}

impl MemoryConfig {
    /// The most bytes that one slot may take: 128 for each session, which is enough for ids of 60 bytes, and enough
    /// for one session with the longest id in any case. Beyond it, the least recently used sessions go.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        (self.per_caller as usize).saturating_mul(128).max(8192)
    }
}

/// `subrequest`, `subrequest_timeout` and `replay_timeout`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubrequestConfig {
    /// The authority that the server expects, where a route rewrites it.
    pub authority: Option<String>,
    /// The path that the server expects, where a route rewrites it.
    pub path: Option<String>,
    /// How long such a request may take.
    pub timeout: Duration,
    /// How long one may take that stands for a client's own.
    pub replay_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Repair,
            paths: Paths(vec!["/mcp".to_owned()]),
            hold_request_headers: false,
            on_reinitialize: OnReinitialize::Forward,
            on_session_lost: OnSessionLost::Recover,
            on_missing_session: OnMissingSession::Pass,
            repair_protocol_version: true,
            translate_ids: true,
            caller: CallerConfig {
                metadata: None,
                headers: vec!["authorization".to_owned(), "x-api-key".to_owned()],
                anonymous: Anonymous::ByAddress,
            },
            session: SessionConfig {
                idle_timeout: Duration::from_secs(30 * 60),
                max_age: Duration::from_secs(24 * 60 * 60),
                lease: Duration::from_secs(5),
                queue: 64,
                queue_timeout: Duration::from_secs(30),
            },
            memory: MemoryConfig {
                slots: NonZeroU32::new(4096).unwrap_or(NonZeroU32::MIN),
                per_caller: 64,
                bulk_slots: NonZeroU32::new(256).unwrap_or(NonZeroU32::MIN),
                replay_bytes: 65_536,
            },
            subrequest: SubrequestConfig {
                authority: None,
                path: None,
                timeout: Duration::from_secs(5),
                replay_timeout: Duration::from_secs(60),
            },
            upstream_host_header: None,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// What one of the `memory.bulk_slots` takes at most, in bytes.
const BULK_BYTES: usize = 64 * 1024;
/// The most memory that a configuration may ask for, in bytes.
const MEMORY_CEILING: usize = 1 << 30;

impl Config {
    /// Reads a configuration; an empty one means all defaults.
    ///
    /// # Errors
    /// If it is no JSON object, has an unknown key, or a value of the wrong shape or out of range. The error names the key.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let root = if json.trim_ascii().is_empty() {
            Map::new()
        } else {
            match serde_json::from_slice(json) {
                Ok(Value::Object(root)) => root,
                Ok(other) => return Err(ConfigError::new("", &other, "a JSON object")),
                Err(error) => {
                    let expected = "JSON (in Envoy: a google.protobuf.StringValue that holds it)";
                    return Err(ConfigError::found("", error.to_string(), expected));
                }
            }
        };
        let root = Fields::root(root);
        let config = read(&root)?;
        root.finish()?;
        Ok(config)
    }
}

fn read(root: &Fields) -> Result<Config, ConfigError> {
    let default = Config::default();
    let config = Config {
        mode: root.choice(
            "mode",
            &[("repair", Mode::Repair), ("observe", Mode::Observe)],
            default.mode,
        )?,
        paths: read_paths(root, default.paths)?,
        hold_request_headers: root.flag("hold_request_headers", default.hold_request_headers)?,
        on_reinitialize: root.choice(
            "on_reinitialize",
            &[
                ("forward", OnReinitialize::Forward),
                ("reuse", OnReinitialize::Reuse),
                ("queue", OnReinitialize::Queue),
            ],
            default.on_reinitialize,
        )?,
        on_session_lost: root.choice(
            "on_session_lost",
            &[
                ("recover", OnSessionLost::Recover),
                ("forget", OnSessionLost::Forget),
            ],
            default.on_session_lost,
        )?,
        on_missing_session: root.choice(
            "on_missing_session",
            &[
                ("pass", OnMissingSession::Pass),
                ("initialize", OnMissingSession::Initialize),
            ],
            default.on_missing_session,
        )?,
        repair_protocol_version: root
            .flag("repair_protocol_version", default.repair_protocol_version)?,
        translate_ids: root.flag("translate_ids", default.translate_ids)?,
        caller: root.section("caller", |caller| read_caller(caller, default.caller))?,
        session: root.section("session", |session| read_session(session, default.session))?,
        memory: root.section("memory", |memory| read_memory(memory, default.memory))?,
        subrequest: read_subrequest(root, &default.subrequest)?,
        upstream_host_header: read_upstream_host_header(root)?,
    };
    refuse_what_does_not_go_together(root, &config)?;
    Ok(config)
}

fn refuse_what_does_not_go_together(root: &Fields, config: &Config) -> Result<(), ConfigError> {
    // An initialize that waits with its headers gone would occupy the very server that it waits for.
    if config.on_reinitialize == OnReinitialize::Queue && !config.hold_request_headers {
        let expected = "\"queue\" only together with `hold_request_headers: true`";
        return Err(root.error("on_reinitialize", &Value::from("queue"), expected));
    }
    if let Some(name) = &config.upstream_host_header
        && config.caller.headers.contains(name)
    {
        let expected = "a header that is none of `caller.headers`: it is removed from requests";
        return Err(root.error(
            "upstream_host_header",
            &Value::from(name.as_str()),
            expected,
        ));
    }
    Ok(())
}

fn read_paths(root: &Fields, default: Paths) -> Result<Paths, ConfigError> {
    let expected = "a list of 1 to 64 paths that start with \"/\"; a \"*\" may only end one";
    let Some(paths) = root.texts("paths", 1..=64, expected)? else {
        return Ok(default);
    };
    for path in &paths {
        let stem = path.strip_suffix('*').unwrap_or(path);
        if !stem.starts_with('/') || stem.contains(['*', '?', '#']) {
            return Err(root.error("paths", &Value::from(path.as_str()), expected));
        }
    }
    Ok(Paths(paths))
}

fn read_caller(caller: &Fields, default: CallerConfig) -> Result<CallerConfig, ConfigError> {
    let metadata = caller.texts_or_null(
        "metadata",
        2..=16,
        "null, or a list of 2 to 16 names such as [\"envoy.filters.http.jwt_authn\", \"payload\", \"sub\"]",
    )?;
    let expected = "a list of at most 16 header names";
    let headers = match caller.texts("headers", 0..=16, expected)? {
        None => default.headers,
        Some(names) => {
            for name in &names {
                if !is_header_name(name) {
                    return Err(caller.error("headers", &Value::from(name.as_str()), expected));
                }
            }
            names.iter().map(|name| name.to_ascii_lowercase()).collect()
        }
    };
    let anonymous = [
        ("by_address", Anonymous::ByAddress),
        ("refuse", Anonymous::Refuse),
    ];
    Ok(CallerConfig {
        metadata,
        headers,
        anonymous: caller.choice("anonymous", &anonymous, default.anonymous)?,
    })
}

fn read_session(session: &Fields, default: SessionConfig) -> Result<SessionConfig, ConfigError> {
    let second = Duration::from_secs(1);
    let config = SessionConfig {
        idle_timeout: session.duration("idle_timeout", second..=YEAR, default.idle_timeout)?,
        max_age: session.duration("max_age", second..=YEAR, default.max_age)?,
        lease: session.duration("lease", second..=60 * MINUTE, default.lease)?,
        queue: session.number("queue", 1..=1024, default.queue)?,
        queue_timeout: session.duration(
            "queue_timeout",
            second..=60 * MINUTE,
            default.queue_timeout,
        )?,
    };
    Ok(config)
}

fn read_memory(memory: &Fields, default: MemoryConfig) -> Result<MemoryConfig, ConfigError> {
    let config = MemoryConfig {
        slots: read_slots(memory, "slots", 1 << 17, default.slots)?,
        per_caller: memory.number("per_caller", 1..=4096, default.per_caller)?,
        bulk_slots: read_slots(memory, "bulk_slots", 1 << 13, default.bulk_slots)?,
        replay_bytes: read_replay_bytes(memory, default.replay_bytes)?,
    };
    let bulk = BULK_BYTES.saturating_mul(config.bulk_slots.get() as usize);
    let ceiling = config
        .slot_bytes()
        .saturating_mul(config.slots.get() as usize)
        .saturating_add(bulk);
    if ceiling > MEMORY_CEILING {
        return Err(ConfigError::found(
            "memory.slots",
            format!(
                "{} slots of {} bytes and {} bulk_slots of {BULK_BYTES}",
                config.slots,
                config.slot_bytes(),
                config.bulk_slots
            ),
            "slots, per_caller and bulk_slots that take at most 1 GiB together (a slot takes 128 bytes per session, at \
             least 8192)",
        ));
    }
    Ok(config)
}

fn read_replay_bytes(memory: &Fields, default: usize) -> Result<usize, ConfigError> {
    let default_number = u32::try_from(default).unwrap_or(u32::MAX);
    let bytes = memory.number("replay_bytes", 0..=1 << 20, default_number)?;
    Ok(usize::try_from(bytes).unwrap_or(default))
}

fn read_slots(
    memory: &Fields,
    key: &'static str,
    most: u32,
    default: NonZeroU32,
) -> Result<NonZeroU32, ConfigError> {
    let slots = memory.number(key, 1..=most, default.get())?;
    Ok(NonZeroU32::new(slots).unwrap_or(default))
}

fn read_subrequest(
    root: &Fields,
    default: &SubrequestConfig,
) -> Result<SubrequestConfig, ConfigError> {
    let millisecond = Duration::from_millis(1);
    let timeout = root.duration(
        "subrequest_timeout",
        millisecond..=5 * MINUTE,
        default.timeout,
    )?;
    let replay_timeout = root.duration(
        "replay_timeout",
        millisecond..=60 * MINUTE,
        default.replay_timeout,
    )?;
    root.section("subrequest", |fields| {
        let authority = fields.text_or_null(
            "authority",
            "null, or a host such as \"mcp.internal:8080\"",
            |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()),
        )?;
        let path = fields.text_or_null("path", "null, or a path such as \"/mcp\"", |text| {
            text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
        })?;
        Ok(SubrequestConfig {
            authority,
            path,
            timeout,
            replay_timeout,
        })
    })
}

/// The filter removes this header from requests and answers: so it can't be one that means something else.
fn read_upstream_host_header(root: &Fields) -> Result<Option<String>, ConfigError> {
    let is_free = |name: &str| {
        let is_taken = |taken: &&str| taken.eq_ignore_ascii_case(name);
        is_header_name(name) && !TAKEN_HEADERS.iter().any(is_taken)
    };
    let expected = "null, or the name of a header of its own, such as \"x-mcp-upstream-host\"";
    let name = root.text_or_null("upstream_host_header", expected, is_free)?;
    Ok(name.map(|name| name.to_ascii_lowercase()))
}

/// Headers that Envoy, MCP and HTTP itself go by, or that hold credentials.
const TAKEN_HEADERS: [&str; 18] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "last-event-id",
    "location",
    "mcp-method",
    "mcp-protocol-version",
    "mcp-session-id",
    "set-cookie",
    "te",
    "transfer-encoding",
    "x-forwarded-for",
];

/// A `token` of RFC 9110, 5.6.2.
fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key, with dots (`session.idle_timeout`); empty for the whole.
    pub key: String,
    /// What stood there, cut to a line's length.
    pub found: String,
    /// What may stand there.
    pub expected: String,
}

impl ConfigError {
    fn new(key: &str, found: &Value, expected: &str) -> Self {
        Self::found(key, found.to_string(), expected)
    }

    fn found(key: &str, found: String, expected: &str) -> Self {
        let found = if found.chars().count() > 100 {
            found.chars().take(100).chain("...".chars()).collect()
        } else {
            found
        };
        Self {
            key: key.to_owned(),
            found,
            expected: expected.to_owned(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_empty() {
            "the configuration"
        } else {
            &self.key
        };
        write!(f, "{key}: found {}, expected {}", self.found, self.expected)
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
