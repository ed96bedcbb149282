"""The parts of envoy/envoy.yaml around the filter: the route without it, and the caller key from the environment."""

import json

import pytest
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import error
from silent_client import BOTH, SilentClient

OFF = ("x-session-filter", "off")


def test_a_route_with_the_filter_switched_off_is_left_alone(envoy, fake_server):
    client = SilentClient(envoy.port, [("x-api-key", "off")])
    session = client.initialize().session
    answer = client.list_tools(headers=[("accept", BOTH), OFF])
    assert answer.status == 400
    assert envoy.outcome(answer) is None
    assert fake_server.last.header("mcp-session-id") is None
    assert client.list_tools().result["session"] == session


def test_nothing_is_learned_on_a_route_with_the_filter_switched_off(envoy):
    client = SilentClient(envoy.port, [("x-api-key", "off, too")])
    assert client.initialize(headers=[("accept", BOTH), OFF]).session
    assert envoy.outcome(client.list_tools()) == "passed_no_session"


def rewriting(config):
    """The filter's own requests skip the route: it has to find out where this one leads."""
    route = config.connection_manager["route_config"]["virtual_hosts"][0]["routes"][-1]["route"]
    route["prefix_rewrite"] = "/inside/"
    route["host_rewrite_literal"] = "inside.test"
    return config


def test_a_session_behind_a_rewriting_route_survives_a_refused_request(fake_server):
    answer, here = fake_server.answer, ("/inside/mcp", "inside.test")

    def answer_inside_only(message):
        return answer(message) if (message.path, message.header("host")) == here else error(404, "not here")

    fake_server.answer = answer_inside_only
    try:
        with RealEnvoy(rewriting(EnvoyConfig(fake_server.port))) as envoy:
            client = SilentClient(envoy.port)
            session = client.initialize().session
            refused = client.call("refuse", {"status": 400})
            assert refused.status == 400
            assert envoy.outcome(refused) == "repaired"
            ping = fake_server.last
            assert json.loads(ping.body)["method"] == "ping"
            assert (ping.path, ping.header("host")) == here
            assert client.list_tools().result["session"] == session
    finally:
        fake_server.answer = answer


@pytest.mark.parametrize("held", [True, False])
def test_a_session_behind_a_rewriting_route_is_recovered_where_the_route_leads(fake_server, held):
    with RealEnvoy(rewriting(EnvoyConfig(fake_server.port, {"hold_request_headers": held}))) as envoy:
        client = SilentClient(envoy.port)
        client.initialize()
        for _ in range(2):
            fake_server.sessions.clear()
            before = len(fake_server.requests)
            assert envoy.outcome(client.list_tools()) == "recovered"
            seen = fake_server.requests[before:]
            assert [(one.path, one.header("host")) for one in seen] == [("/inside/mcp", "inside.test")] * 6


@pytest.mark.parametrize("key", ["", "a secret", "s" * 4096])
def test_a_caller_key_from_the_environment_is_taken(fake_server, key):
    with RealEnvoy(EnvoyConfig(fake_server.port), env={"MCP_SESSION_FILTER_KEY": key}) as envoy:
        client = SilentClient(envoy.port)
        session = client.initialize().session
        assert client.list_tools().result["session"] == session
        said = "\n".join(envoy.process.err.lines + envoy.process.out.lines)
        assert not key or key not in said
