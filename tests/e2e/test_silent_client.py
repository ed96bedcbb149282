"""A client that never sends a session id, through Envoy, at real servers: everything works."""

import itertools

import pytest
from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import INITIALIZE, SilentClient

keys = (f"key-{number}" for number in itertools.count())


@pytest.fixture(scope="module", params=[True, False], ids=["headers-held", "headers-not-held"])
def held(request):
    return request.param


@pytest.fixture(scope="module")
def running(real_server, held):
    with RealEnvoy(EnvoyConfig(real_server.port, {"hold_request_headers": held})) as envoy:
        yield envoy


@pytest.fixture
def client(running, held):
    """A caller that nobody else is. Where headers are not held, only POSTs with a protocol version are repaired."""
    version = None if held else INITIALIZE["protocolVersion"]
    return SilentClient(running.port, [("x-api-key", next(keys))], version=version)


def straight(real_server, session=None):
    """The same client without Envoy, in a session of its choice."""
    return SilentClient(real_server.port, [("mcp-session-id", session)] if session else [])


def test_the_servers_refuse_a_client_without_an_id(real_server):
    client = straight(real_server)
    assert client.initialize().status == 200
    assert client.initialized().status == 400
    assert client.list_tools().status == 400
    assert client.call_echo("hello").status == 400


def test_a_whole_session_works(running, client):
    opened = client.initialize()
    assert opened.status == 200 and opened.session
    assert opened.result["protocolVersion"] == INITIALIZE["protocolVersion"]
    assert running.outcome(opened) == "learned"

    initialized = client.initialized()
    assert initialized.status == 202
    assert running.outcome(initialized) == "repaired"

    tools = client.list_tools()
    assert "echo" in [tool["name"] for tool in tools.result["tools"]]
    assert running.outcome(tools) == "repaired"

    called = client.call_echo("hello")
    assert called.result["content"][0]["text"] == "Echo: hello"
    assert running.outcome(called) == "repaired"

    with client.stream() as stream:
        assert stream.status == 200
        assert stream.header("content-type").startswith("text/event-stream")
        # The stream does not keep the session from going on.
        assert client.list_tools().status == 200
    assert running.outcome(stream) == "repaired"

    deleted = client.delete()
    assert deleted.status == 200
    assert running.outcome(deleted) == "ended"


def test_a_deleted_session_is_not_repaired_any_more(running, client):
    client.initialize()
    client.initialized()
    assert client.delete().status == 200
    refused = client.list_tools()
    assert refused.status == 400
    assert running.outcome(refused) == "passed_no_session"


def test_a_second_initialize_opens_a_second_session_and_the_rest_goes_there(real_server, running, client):
    first = client.initialize().session
    client.initialized()
    second = client.initialize().session
    assert second != first
    assert client.initialized().status == 202
    assert client.list_tools().status == 200
    assert client.delete().status == 200
    # So it was the second one that the client was in: the first one lives.
    assert straight(real_server, second).list_tools().status in (400, 404)
    assert straight(real_server, first).list_tools().status == 200


def test_a_post_that_accepts_nothing_in_particular_gets_its_tools(running, client):
    client.initialize()
    client.initialized()
    for headers in [(), [("accept", "*/*")]]:
        assert "echo" in [tool["name"] for tool in client.list_tools(headers=headers).result["tools"]]


def test_a_get_that_asks_for_no_event_stream_gets_what_the_server_says_to_it(real_server, running, client):
    client.initialize()
    client.initialized()
    probe = client.request("GET", headers=[("accept", "*/*")])
    alone = straight(real_server).request("GET", headers=[("accept", "*/*")])
    assert (probe.status, probe.body) == (alone.status, alone.body)
    assert probe.status >= 400
    assert running.outcome(probe) == "passed_probe"


def test_an_id_of_the_clients_own_is_left_alone(real_server, running, client):
    other = client.initialize().session
    client.initialized()
    client.initialize()
    named = SilentClient(running.port, [*client.headers, ("mcp-session-id", other)])
    tools = named.list_tools()
    assert tools.status == 200
    assert running.outcome(tools) == "passed_own_id"
    assert named.delete().status == 200
    assert straight(real_server, other).list_tools().status in (400, 404)
