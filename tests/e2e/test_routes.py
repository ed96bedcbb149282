"""The parts of envoy/envoy.yaml around the filter: the route without it, and the caller key from the environment."""

import pytest
from real_envoy import EnvoyConfig, RealEnvoy
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


@pytest.mark.parametrize("key", ["", "a secret", "s" * 4096])
def test_a_caller_key_from_the_environment_is_taken(fake_server, key):
    with RealEnvoy(EnvoyConfig(fake_server.port), env={"MCP_SESSION_FILTER_KEY": key}) as envoy:
        client = SilentClient(envoy.port)
        session = client.initialize().session
        assert client.list_tools().result["session"] == session
        said = "\n".join(envoy.process.err.lines + envoy.process.out.lines)
        assert not key or key not in said
