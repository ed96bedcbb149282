"""What no well-behaved client sends passes as it came, and the filter lives on."""

import itertools
import json
import socket

import pytest
from h2_client import post_with_trailers
from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import BOTH, INITIALIZE, SilentClient, request
from tokens import translated

authorities = (f"host-{number}.test" for number in itertools.count())
MIB = 1 << 20


@pytest.fixture(scope="module")
def envoy(fake_server):
    config = EnvoyConfig(fake_server.port, {"hold_request_headers": True})
    config.connection_manager["max_request_headers_kb"] = 256
    # A client that left has no answer that names its request: its query does.
    log = config.connection_manager["access_log"][0]["typed_config"]["log_format"]["text_format_source"]
    log["inline_string"] = log["inline_string"].replace("PATH(NQ:", "PATH(WQ:")
    with RealEnvoy(config) as running:
        yield running


@pytest.fixture
def client(envoy):
    """A client whose session is open."""
    client = SilentClient(envoy.port, authority=next(authorities))
    client.session = client.initialize().session
    yield client
    assert client.list_tools().result["session"] == client.session
    envoy.assert_filter_lives()


NOT_UTF_8 = b"\xff\xfe\xc3("


@pytest.mark.parametrize("name", ["x-odd", "accept", "user-agent", "cookie", "traceparent"])
def test_a_header_that_is_not_utf_8_does_not_stop_a_repair(envoy, fake_server, client, name):
    answer = client.post(request("tools/list"), headers=[(name, NOT_UTF_8)])
    assert answer.result["session"] == client.session
    assert fake_server.last.header(name) == NOT_UTF_8.decode("latin-1")


@pytest.mark.parametrize("name", ["mcp-session-id", "mcp-protocol-version", "authorization", "x-api-key"])
def test_a_header_that_is_not_utf_8_passes_as_it_is(fake_server, client, name):
    before = len(fake_server.requests)
    answer = client.post(request("tools/list"), headers=[(name, NOT_UTF_8)])
    assert answer.status in (400, 404)
    assert fake_server.requests[before].header(name) == NOT_UTF_8.decode("latin-1")


def test_callers_whose_credentials_are_not_utf_8_have_sessions_like_others(envoy, client):
    one, other = (
        SilentClient(envoy.port, [("authorization", b"Bearer \xff" + end)], authority=client.authority)
        for end in (b"\xfe", b"\xfd")
    )
    session = one.initialize().session
    assert one.list_tools().result["session"] == session
    assert other.list_tools().status == 400


@pytest.mark.parametrize("name", ["x-long", "accept"])
def test_a_header_of_60_kb_does_not_stop_a_repair(fake_server, client, name):
    value = "a" * 60_000
    answer = client.post(request("tools/list"), headers=[(name, value)])
    assert answer.result["session"] == client.session
    assert fake_server.last.header(name) == value


def test_a_credential_of_60_kb_makes_a_caller(envoy, client):
    one, other = (
        SilentClient(envoy.port, [("authorization", "Bearer " + "a" * 60_000 + end)], authority=client.authority)
        for end in "xy"
    )
    session = one.initialize().session
    assert one.list_tools().result["session"] == session
    assert other.list_tools().status == 400


@pytest.mark.parametrize(
    ("name", "outcome"), [("mcp-session-id", "passed_own_id"), ("mcp-protocol-version", "passed_sessionless")]
)
def test_a_header_of_60_kb_passes_as_it_is(envoy, fake_server, client, name, outcome):
    before = len(fake_server.requests)
    answer = client.list_tools(headers=[("accept", BOTH), (name, "a" * 60_000)])
    assert answer.status in (400, 404)
    assert fake_server.requests[before].header(name) == "a" * 60_000
    assert envoy.outcome(answer) == outcome


def test_an_empty_session_id_counts_as_none(envoy, client):
    answer = client.list_tools(headers=[("accept", BOTH), ("mcp-session-id", "")])
    assert answer.result["session"] == client.session
    assert envoy.outcome(answer) == "repaired"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{",
        b'{"method":',
        b"\xff\xfe\x00",
        b"[" * 60_000,
        b'"' + b"\\" * 999,
        b"null",
        b"{}",
        b"[]",
        b"\0" * 999,
    ],
    ids=lambda body: f"{len(body)}-bytes-{body[:6]!r}",
)
def test_a_body_that_is_no_message_passes_as_it_is(envoy, fake_server, client, body):
    before = len(fake_server.requests)
    answer = client.request("POST", headers=[("content-type", "application/json")], body=body)
    assert answer.status in (200, 202, 400)
    assert fake_server.requests[before].body == body


def test_a_client_that_leaves_amid_its_body_harms_nobody(envoy, client):
    for number, sent in enumerate([b"", b"{", b'{"jsonrpc":"2.0","id":1,', b'{"method":"tools/list",']):
        head = f"POST /mcp?leaves={number} HTTP/1.1\r\nhost: {client.authority}\r\ncontent-length: 100\r\n\r\n"
        with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
            envoy.send_in_pieces(connection, [head.encode(), *([sent] if sent else [])])
        envoy.process.out.wait_for(rf"/mcp\?leaves={number}")


@pytest.mark.parametrize(
    ("message", "repaired"),
    [
        (request("tools/list"), True),
        (request("initialize", INITIALIZE), False),
        ({"id": 1, "jsonrpc": "2.0", "params": {"a": "b" * 9000}, "method": "tools/list"}, True),
    ],
    ids=["tools/list", "initialize", "method-last"],
)
def test_http_2_trailers_end_a_request_too(fake_server, client, message, repaired):
    client.authority = next(authorities)
    client.session = client.initialize().session
    headers = [(":authority", client.authority), ("content-type", "application/json"), ("accept", BOTH)]
    answer = post_with_trailers(client.port, headers, json.dumps(message).encode())
    assert answer.status == 200
    if repaired:
        assert answer.result["session"] == client.session
    else:
        assert answer.session != client.session
        client.session = answer.session


@pytest.mark.parametrize("body", [b"{", b"hello", b'{"jsonrpc":"2.0","id":1'])
def test_http_2_trailers_end_a_body_that_says_no_method(envoy, fake_server, client, body):
    headers = [(":authority", client.authority), ("content-type", "application/json"), ("accept", BOTH)]
    before = len(fake_server.requests)
    assert post_with_trailers(envoy.port, headers, body).status == 400
    assert fake_server.requests[before].body == body


def test_held_requests_may_arrive_in_any_pieces(envoy, fake_server, client):
    late = {"jsonrpc": "2.0", "id": 1, "params": {"method": "initialize"}, "method": "tools/list"}
    first = {"jsonrpc": "2.0", "id": 1, "params": INITIALIZE, "method": "initialize"}
    for message in (late, first):
        body = json.dumps(message).encode()
        fields = f"host: {client.authority}\r\naccept: {BOTH}\r\ncontent-length: {len(body)}\r\n"
        head = f"POST /mcp HTTP/1.1\r\n{fields}\r\n"
        cuts = [[body[:at], body[at:]] for at in range(1, len(body))]
        for pieces in [*cuts, [body[at : at + 1] for at in range(len(body))]]:
            with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
                envoy.send_in_pieces(connection, [head.encode(), *pieces])
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            assert translated(body, fake_server.last.body) is not None
            expected = client.session if message is late else None
            assert fake_server.last.header("mcp-session-id") == expected
            if message is first:
                client.session = client.list_tools().result["session"]


def test_a_method_that_comes_too_late_lets_the_request_pass_without_an_id(envoy, fake_server, client):
    message = {"jsonrpc": "2.0", "id": 1, "params": {"filler": "a" * MIB}, "method": "tools/list"}
    answer = client.post(message)
    assert answer.status == 400
    assert envoy.outcome(answer) == "passed_too_large"
    assert json.loads(fake_server.last.body) == message


def test_64_mb_stream_through_with_flat_memory(envoy, fake_server, client):
    call = request("tools/call", {"name": "echo", "arguments": {"message": "a" * (64 * MIB)}})
    client.list_tools()
    before = envoy.memory("VmRSS")
    answer = client.post(call)
    assert answer.result["session"] == client.session
    assert len(fake_server.last.body) > 64 * MIB
    assert envoy.memory("VmHWM") - before < 32 * MIB


def test_observing_changes_nothing(fake_server):
    with RealEnvoy(EnvoyConfig(fake_server.port, {"mode": "observe", "hold_request_headers": True})) as envoy:
        client = SilentClient(envoy.port, authority=next(authorities))
        opened = client.initialize()
        assert envoy.outcome(opened) == "learned"
        answer = client.list_tools(headers=[("accept", "*/*")])
        assert answer.status == 400
        assert envoy.outcome(answer) == "would_repair"
        assert fake_server.last.header("mcp-session-id") is None
        assert fake_server.last.header("mcp-protocol-version") is None
        assert fake_server.last.header("accept") == "*/*"
        assert envoy.counter("would_repair") == 1
        assert envoy.counter("repaired") == 0
