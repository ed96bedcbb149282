//! Configurations: none panics, an error names a key, and what is accepted is within all bounds.

use std::time::Duration;

use mcp_session_filter::config::{Config, ConfigError, OnReinitialize};
use serde_json::{Map, Value};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Every key, with dots.
const KEYS: [&str; 28] = [
    "mode",
    "paths",
    "hold_request_headers",
    "on_reinitialize",
    "on_session_lost",
    "on_missing_session",
    "repair_protocol_version",
    "translate_ids",
    "upstream_host_header",
    "subrequest_timeout",
    "replay_timeout",
    "caller",
    "caller.metadata",
    "caller.headers",
    "caller.anonymous",
    "session",
    "session.idle_timeout",
    "session.max_age",
    "session.lease",
    "session.queue",
    "session.queue_timeout",
    "memory",
    "memory.slots",
    "memory.per_caller",
    "memory.bulk_slots",
    "memory.replay_bytes",
    "subrequest",
    "subrequest.authority",
];
const LAST_KEY: &str = "subrequest.path";

/// Checks a configuration.
pub fn check(json: &[u8]) {
    let parsed = Config::parse(json);
    let object = match serde_json::from_slice(json) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    };
    match &parsed {
        Ok(config) => check_bounds(config),
        Err(error) => check_error(error, object.as_ref()),
    }
    if let Some(object) = object {
        let again = Value::Object(object).to_string();
        let again = Config::parse(again.as_bytes());
        // A large number may be shown otherwise: it is not read to the last digit.
        let key = |error: ConfigError| error.key;
        assert_eq!(parsed.map_err(key), again.map_err(key), "written anew");
    } else if parsed.is_ok() {
        assert_eq!(json.trim_ascii(), b"", "no object, and no error");
        assert_eq!(parsed, Ok(Config::default()));
    }
}

fn check_error(error: &ConfigError, object: Option<&Map<String, Value>>) {
    let shown = error.to_string();
    assert!(error.found.chars().count() <= 103, "{shown}");
    assert!(!error.expected.is_empty());
    let Some(object) = object else {
        assert_eq!(error.key, "");
        return;
    };
    assert!(shown.starts_with(&error.key));
    let is_known = |key: &str| KEYS.contains(&key) || key == LAST_KEY;
    let is_there = |key: &str| object.contains_key(key) || is_known(key);
    let is_nested = error.key.split_once('.').is_some_and(|(outer, inner)| {
        let section = object.get(outer).and_then(Value::as_object);
        section.is_some_and(|section| section.contains_key(inner))
    });
    assert!(is_there(&error.key) || is_nested, "{shown}");
}

fn check_bounds(config: &Config) {
    let session = &config.session;
    assert!((SECOND..=YEAR).contains(&session.idle_timeout));
    assert!((SECOND..=YEAR).contains(&session.max_age));
    assert!((SECOND..=HOUR).contains(&session.lease));
    assert!((SECOND..=HOUR).contains(&session.queue_timeout));
    assert!((1..=1024).contains(&session.queue));

    let memory = &config.memory;
    assert!(memory.slots.get() <= 1 << 17);
    assert!(memory.bulk_slots.get() <= 1 << 13);
    assert!((1..=4096).contains(&memory.per_caller));
    assert!(memory.replay_bytes <= 1 << 20);
    let slots = memory.slots.get() as usize * memory.slot_bytes();
    assert!(slots + (memory.bulk_slots.get() as usize * (64 << 10)) <= 1 << 30);

    let subrequest = &config.subrequest;
    assert!((Duration::from_millis(1)..=5 * 60 * SECOND).contains(&subrequest.timeout));
    assert!((Duration::from_millis(1)..=HOUR).contains(&subrequest.replay_timeout));
    let is_plain = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    assert!(subrequest.authority.iter().all(is_plain));
    assert!(subrequest.path.iter().all(is_plain));
    assert!(
        subrequest
            .path
            .iter()
            .all(|path| config_path(path.as_bytes()))
    );

    let caller = &config.caller;
    let metadata = caller.metadata.as_ref();
    assert!(metadata.is_none_or(|names| (2..=16).contains(&names.len())));
    assert!(caller.headers.len() <= 16);
    assert!(caller.headers.iter().all(|name| is_header_name(name)));
    let host = &config.upstream_host_header;
    assert!(host.iter().all(|name| is_header_name(name)));
    assert!(
        host.iter()
            .all(|name| !caller.headers.contains(name) && !name.starts_with("mcp-session"))
    );
    let waits = config.on_reinitialize == OnReinitialize::Queue;
    assert!(!waits || config.hold_request_headers);
    assert!(!config.paths.contain(b""), "only what begins with a slash");
}

fn config_path(path: &[u8]) -> bool {
    path.starts_with(b"/")
}

/// What no line of headers can be broken by; in lower case, as the host hands names over.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token) && *name == name.to_ascii_lowercase()
}
