"""`on_session_lost: "forget"`: what the server has forgotten is forgotten here, and nothing else is."""

import itertools
import json

import mcp_servers
import pytest
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import error
from silent_client import SilentClient, request

authorities = (f"host-{number}.test" for number in itertools.count())
CREDENTIALS = [("authorization", "Bearer a"), ("x-api-key", "k")]


SETTINGS = {"hold_request_headers": True, "on_session_lost": "forget"}


@pytest.fixture(scope="module")
def envoy(fake_server):
    with RealEnvoy(EnvoyConfig(fake_server.port, SETTINGS)) as running:
        yield running


@pytest.fixture
def client(envoy):
    return SilentClient(envoy.port, CREDENTIALS, authority=next(authorities))


@pytest.mark.parametrize("kind", mcp_servers.KINDS)
def test_a_session_lost_in_a_servers_restart_is_forgotten(kind):
    with mcp_servers.start(kind) as server:
        with RealEnvoy(EnvoyConfig(server.port, SETTINGS)) as envoy:
            client = SilentClient(envoy.port)
            client.initialize()
            client.initialized()
            assert client.list_tools().status == 200

            server.process.kill()
            with mcp_servers.start(kind, server.port):
                lost = client.list_tools()
                # What each server says to an id that it does not know.
                assert lost.status == (400 if kind == "everything" else 404)
                assert envoy.outcome(lost) == "lost"

                refused = client.list_tools()
                assert refused.status == 400
                assert envoy.outcome(refused) == "passed_no_session"

                assert client.initialize().status == 200
                client.initialized()
                assert client.list_tools().status == 200


@pytest.mark.parametrize("status", [400, 404])
def test_a_session_that_refuses_one_request_lives_on(envoy, fake_server, client, status):
    session = client.initialize().session
    before = len(fake_server.requests)
    refused = client.call("refuse", {"status": status})
    assert refused.status == status
    assert json.loads(refused.body)["error"]["message"] == "refused for a reason of its own"
    assert envoy.outcome(refused) == "repaired"
    _, ping = fake_server.requests[before:]
    assert json.loads(ping.body)["method"] == "ping"
    assert ping.header("mcp-session-id") == session
    assert ping.header("host") == client.authority
    assert ping.path == "/mcp"
    assert [(name, ping.header(name)) for name, _ in CREDENTIALS] == CREDENTIALS
    assert client.list_tools().result["session"] == session


def test_a_lost_session_is_asked_for_twice_and_then_forgotten(envoy, fake_server, client):
    session = client.initialize().session
    fake_server.sessions.discard(session)
    before = len(fake_server.requests)
    lost = client.list_tools()
    assert lost.status == 404
    assert json.loads(lost.body)["error"]["message"] == "unknown session"
    assert envoy.outcome(lost) == "lost"
    _, first, second = fake_server.requests[before:]
    assert [json.loads(ping.body)["method"] for ping in (first, second)] == ["ping", "ping"]
    assert first.header("mcp-protocol-version") == "2025-11-25"
    assert second.header("mcp-protocol-version") is None
    assert envoy.outcome(client.list_tools()) == "passed_no_session"


def test_a_server_in_trouble_loses_no_session(envoy, fake_server, client):
    session = client.initialize().session
    working = fake_server.answer

    def in_trouble(message):
        words = json.loads(message.body).get("method")
        return error(404, "not here") if words == "tools/list" else error(503, "busy")

    fake_server.answer = in_trouble
    try:
        refused = client.list_tools()
    finally:
        fake_server.answer = working
    assert refused.status == 404
    assert envoy.outcome(refused) == "repaired"
    assert client.list_tools().result["session"] == session


def test_a_lost_session_of_an_echoing_client_is_forgotten_too(envoy, fake_server, client):
    session = client.initialize().session
    fake_server.sessions.discard(session)
    echoing = SilentClient(envoy.port, [*CREDENTIALS, ("mcp-session-id", session)], authority=client.authority)
    lost = echoing.post(request("tools/list"))
    assert lost.status == 404
    assert envoy.outcome(lost) == "lost"
    assert envoy.outcome(client.list_tools()) == "passed_no_session"


def test_a_newer_session_outlives_the_loss_of_an_older_one(envoy, fake_server, client):
    older = client.initialize().session
    newer = client.initialize().session
    fake_server.sessions.discard(older)
    echoing = SilentClient(envoy.port, [*CREDENTIALS, ("mcp-session-id", older)], authority=client.authority)
    assert envoy.outcome(echoing.list_tools()) == "lost"
    assert client.list_tools().result["session"] == newer
