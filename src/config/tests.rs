use super::*;
use serde_json::json;

fn error(json: &str) -> String {
    Config::parse(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn nothing_means_all_defaults() {
    for json in ["", "  \n", "{}"] {
        assert_eq!(Config::parse(json.as_bytes()), Ok(Config::default()));
    }
}

#[test]
fn the_defaults_can_be_written_out() {
    let json = br#"{
        "mode": "repair",
        "paths": ["/mcp"],
        "hold_request_headers": false,
        "caller": {"metadata": null, "headers": ["authorization", "x-api-key"], "anonymous": "by_address"},
        "session": {
            "idle_timeout": "30m", "max_age": "24h", "lease": "5s", "queue": 64, "queue_timeout": "30s"
        },
        "memory": {"slots": 4096, "per_caller": 64, "bulk_slots": 256, "replay_bytes": 65536},
        "on_session_lost": "recover",
        "on_reinitialize": "forward",
        "on_missing_session": "pass",
        "translate_ids": true,
        "repair_protocol_version": true,
        "upstream_host_header": null,
        "subrequest": {"authority": null, "path": null},
        "subrequest_timeout": "5s",
        "replay_timeout": "60s"
    }"#;
    assert_eq!(Config::parse(json), Ok(Config::default()));
}

#[test]
fn every_setting_arrives() {
    let json = br#"{
        "mode": "observe", "paths": ["/a", "/b/*"], "hold_request_headers": true,
        "caller": {"metadata": ["ns", "sub"], "headers": ["X-Tenant"], "anonymous": "refuse"},
        "session": {
            "idle_timeout": "90s", "max_age": "2d", "lease": "7s", "queue": 3, "queue_timeout": "8s"
        },
        "memory": {"slots": 2.0, "per_caller": 8, "bulk_slots": 5, "replay_bytes": 0},
        "on_reinitialize": "queue", "translate_ids": false,
        "on_session_lost": "forget", "repair_protocol_version": false,
        "subrequest": {"authority": "mcp.internal", "path": "/up"},
        "subrequest_timeout": "1500ms", "replay_timeout": "9s", "upstream_host_header": "x-host"
    }"#;
    let config = Config::parse(json).unwrap();
    assert_eq!(config.mode, Mode::Observe);
    assert!(config.hold_request_headers);
    assert_eq!(
        config.caller.metadata,
        Some(vec!["ns".to_owned(), "sub".to_owned()])
    );
    assert_eq!(config.caller.headers, ["x-tenant"]);
    assert_eq!(config.caller.anonymous, Anonymous::Refuse);
    assert_eq!(config.session.idle_timeout, Duration::from_secs(90));
    assert_eq!(config.session.max_age, Duration::from_secs(2 * 86_400));
    assert_eq!(config.session.lease, Duration::from_secs(7));
    assert_eq!(config.session.queue, 3);
    assert_eq!(config.session.queue_timeout, Duration::from_secs(8));
    assert_eq!(config.on_reinitialize, OnReinitialize::Queue);
    assert!(!config.translate_ids && !config.repair_protocol_version);
    assert_eq!(config.on_session_lost, OnSessionLost::Forget);
    assert_eq!(config.memory.replay_bytes, 0);
    assert_eq!(config.memory.slots.get(), 2);
    assert_eq!(config.memory.bulk_slots.get(), 5);
    assert_eq!(config.memory.per_caller, 8);
    assert_eq!(config.subrequest.authority.as_deref(), Some("mcp.internal"));
    assert_eq!(config.subrequest.path.as_deref(), Some("/up"));
    assert_eq!(config.subrequest.timeout, Duration::from_millis(1500));
    assert_eq!(config.subrequest.replay_timeout, Duration::from_secs(9));
    assert_eq!(config.upstream_host_header.as_deref(), Some("x-host"));
}

#[test]
fn queueing_is_refused_where_headers_are_not_held() {
    let refused = error(r#"{"on_reinitialize": "queue"}"#);
    assert!(
        refused.starts_with("on_reinitialize: found \"queue\", expected"),
        "{refused}"
    );
    assert!(refused.contains("hold_request_headers"), "{refused}");
    for json in [
        r#"{"on_reinitialize": "queue", "hold_request_headers": true}"#,
        r#"{"on_reinitialize": "reuse"}"#,
    ] {
        assert!(Config::parse(json.as_bytes()).is_ok(), "{json}");
    }
}

#[test]
fn paths_are_exact_or_prefixes_and_know_no_query() {
    let config = Config::parse(br#"{"paths": ["/mcp", "/team/*"]}"#).unwrap();
    for path in ["/mcp", "/mcp?x=1", "/team/", "/team/a/b?c"] {
        assert!(config.paths.contain(path.as_bytes()), "{path}");
    }
    for path in ["/mcp/", "/mcpx", "/team", "/", "", "/x?/mcp", "*"] {
        assert!(!config.paths.contain(path.as_bytes()), "{path}");
    }
}

#[test]
fn an_error_names_the_key_what_was_found_and_what_was_expected() {
    assert_eq!(
        error(r#"{"session": {"idle_timeout": 12}}"#),
        "session.idle_timeout: found 12, expected a whole number with a unit (ms, s, m, h, d), \
         such as \"1800s\", from 1s to 31536000s"
    );
    assert_eq!(
        error(r#"{"mode": "repare"}"#),
        "mode: found \"repare\", expected \"repair\" or \"observe\""
    );
    assert!(
        error(r#"{"Mode": "repair"}"#)
            .starts_with("Mode: found \"repair\", expected no such key; known here: mode,")
    );
    assert_eq!(
        error(r#"{"caller.anonymous": "refuse"}"#),
        "caller.anonymous: found \"refuse\", expected it nested: {\"caller\": {\"anonymous\": ..}}"
    );
    assert!(error(r#"{"caller": {"header": []}}"#).starts_with("caller.header: "));
    assert!(error("[]").starts_with("the configuration: found [], expected a JSON object"));
    assert!(error("{").starts_with("the configuration: found EOF"));
}

#[test]
fn wrong_values_are_refused_under_their_key() {
    let wrong = [
        ("mode", "1"),
        ("mode", "null"),
        ("paths", "[]"),
        ("paths", "\"/mcp\""),
        ("paths", "[\"mcp\"]"),
        ("paths", "[\"/a*b\"]"),
        ("paths", "[\"/a?b\"]"),
        ("paths", "[\"\"]"),
        ("hold_request_headers", "\"true\""),
        ("caller", "[]"),
        ("caller.metadata", "[\"one\"]"),
        ("caller.metadata", "\"one\""),
        ("caller.headers", "[\"a b\"]"),
        ("caller.headers", "[1]"),
        ("caller.anonymous", "\"by_adress\""),
        ("session.idle_timeout", "\"30\""),
        ("session.idle_timeout", "\"m\""),
        ("session.idle_timeout", "\"-3s\""),
        ("session.idle_timeout", "\"0s\""),
        ("session.max_age", "\"99999999999999999999h\""),
        ("memory.slots", "0"),
        ("memory.slots", "1.5"),
        ("memory.slots", "-1"),
        ("memory.slots", "1e30"),
        ("memory.slots", "\"4096\""),
        ("memory.slots", "1000000"),
        ("memory.per_caller", "0"),
        ("subrequest.authority", "\"\""),
        ("subrequest.path", "\"mcp\""),
        ("subrequest.path", "\"/a b\""),
        ("subrequest_timeout", "\"0ms\""),
        ("replay_timeout", "60"),
        ("on_session_lost", "\"revive\""),
        ("repair_protocol_version", "1"),
        ("memory.replay_bytes", "-1"),
        ("memory.replay_bytes", "1048577"),
        ("on_reinitialize", "\"reject\""),
        ("translate_ids", "\"no\""),
        ("session.lease", "\"0s\""),
        ("session.queue", "0"),
        ("session.queue", "1025"),
        ("session.queue_timeout", "\"0s\""),
        ("memory.bulk_slots", "0"),
        ("memory.bulk_slots", "8193"),
    ];
    for (key, value) in wrong {
        let json = key.rsplit('.').fold(value.to_owned(), |json, part| {
            format!("{{\"{part}\": {json}}}")
        });
        let refused = Config::parse(json.as_bytes()).unwrap_err();
        assert_eq!(refused.key, key, "{json}: {refused}");
    }
}

#[test]
fn the_upstream_host_header_means_nothing_else() {
    let config = Config::parse(br#"{"upstream_host_header": "X-MCP-Upstream-Host"}"#).unwrap();
    let name = config.upstream_host_header.as_deref();
    assert_eq!(name, Some("x-mcp-upstream-host"));
    let taken = ["", "a b", ":authority", "Host", "Mcp-Session-Id", "cookie"];
    for name in taken.map(|name| json!(name)).into_iter().chain([json!(1)]) {
        let json = json!({ "upstream_host_header": name }).to_string();
        let refused = Config::parse(json.as_bytes()).unwrap_err();
        assert_eq!(refused.key, "upstream_host_header", "{json}");
    }
    let json = br#"{"upstream_host_header": "x-tenant", "caller": {"headers": ["X-Tenant"]}}"#;
    let refused = Config::parse(json).unwrap_err();
    assert_eq!(refused.key, "upstream_host_header");
}

#[test]
fn a_long_value_is_cut_in_the_error() {
    let refused = error(&format!(r#"{{"mode": "{}"}}"#, "x".repeat(5000)));
    assert!(refused.len() < 200, "{refused}");
}
