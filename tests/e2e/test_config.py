"""Configurations as Envoy loads them: what is wrong is refused, and the log names the key."""

import json

import pytest
from real_envoy import CONFIG_FILE, EnvoyConfig
from validation import validate


def validate_settings(settings, folder):
    return validate(EnvoyConfig(1, settings).write(folder))


def test_envoy_yaml_is_valid_as_it_stands():
    verdict = validate(CONFIG_FILE)
    assert verdict.returncode == 0, verdict.stderr


GOOD = [
    "",
    {},
    {"mode": "observe"},
    {"hold_request_headers": True},
    {"paths": ["/mcp", "/servers/*"]},
    {"caller": {"metadata": ["envoy.filters.http.jwt_authn", "payload", "sub"], "headers": [], "anonymous": "refuse"}},
    {"session": {"idle_timeout": "10m", "max_age": "1h"}},
    {"memory": {"slots": 1024, "per_caller": 8}},
    {"on_session_lost": "forget", "on_reinitialize": "forward", "on_missing_session": "pass"},
    {"on_reinitialize": "reuse"},
    {"on_session_lost": "recover", "repair_protocol_version": True, "memory": {"replay_bytes": 0}},
    {"on_reinitialize": "queue", "hold_request_headers": True, "session": {"lease": "3s", "queue": 8}},
]


@pytest.mark.parametrize("settings", GOOD, ids=json.dumps)
def test_good_settings_are_taken(settings, tmp_path):
    verdict = validate_settings(settings, tmp_path)
    assert verdict.returncode == 0, verdict.stderr


WRONG = [
    ({"mod": "repair"}, "mod"),
    ({"mode": "fix"}, "mode"),
    ({"paths": "/mcp"}, "paths"),
    ({"paths": ["mcp"]}, "paths"),
    ({"hold_request_headers": "yes"}, "hold_request_headers"),
    ({"caller": {"header": ["authorization"]}}, "caller.header"),
    ({"caller": {"anonymous": "maybe"}}, "caller.anonymous"),
    ({"caller": {"metadata": "sub"}}, "caller.metadata"),
    ({"session": {"idle_timeout": 30}}, "session.idle_timeout"),
    ({"session": {"idle_timeout": "30"}}, "session.idle_timeout"),
    ({"session": {"max_age": "-1h"}}, "session.max_age"),
    ({"memory": {"slots": 0}}, "memory.slots"),
    ({"memory": {"per_caller": -1}}, "memory.per_caller"),
    ({"memory": {"slots": "many"}}, "memory.slots"),
    ({"subrequest_timeout": "soon"}, "subrequest_timeout"),
    # Without held headers a waiting initialize would occupy the server that it waits for.
    ({"on_reinitialize": "queue"}, "on_reinitialize"),
    ({"on_session_lost": "revive"}, "on_session_lost"),
    ({"on_missing_session": "open"}, "on_missing_session"),
    ({"upstream_host_header": "host"}, "upstream_host_header"),
]


@pytest.mark.parametrize(
    ("settings", "key"), WRONG, ids=lambda value: value if isinstance(value, str) else json.dumps(value)
)
def test_wrong_settings_are_refused_and_the_key_is_named(settings, key, tmp_path):
    verdict = validate_settings(settings, tmp_path)
    assert verdict.returncode != 0
    spoken = [line for line in verdict.stderr.splitlines() if "wasm log" in line]
    assert any(key in line for line in spoken), verdict.stderr
    assert "panicked" not in verdict.stderr


@pytest.mark.parametrize("settings", ["{", "[]", "null", "true", '"repair"', "{} {}", "\u0000"])
def test_settings_that_are_no_json_object_are_refused(settings, tmp_path):
    verdict = validate_settings(settings, tmp_path)
    assert verdict.returncode != 0
    assert [line for line in verdict.stderr.splitlines() if "wasm log" in line], verdict.stderr
    assert "panicked" not in verdict.stderr
