"""Whatever a request says of its length, the server sees that one request with the length that it has, or none.

Connections to the server are shared: a byte too many would be the beginning of somebody else's request.
"""

import socket

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamReset
from parrot import Parrot
from real_envoy import EnvoyConfig, RealEnvoy
from session_mates import chunks
from silent_client import BOTH, SilentClient
from tokens import restored

AUTHORITY = "smuggling.test"
KEY = ("x-api-key", "smuggler")
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
LENGTH = len(CALL)
# Would be a request of its own if it were not taken for what it is: the body of another.
INNER = b"POST /inner HTTP/1.1\r\nhost: inner.test\r\ncontent-length: 0\r\n\r\n"
CHUNKED = "transfer-encoding: chunked"
MODES = {
    "headers-held": {"hold_request_headers": True},
    "headers-not-held": {"hold_request_headers": False},
    "reuse": {"hold_request_headers": True, "on_reinitialize": "reuse"},
}


@pytest.fixture(scope="module")
def server():
    with Parrot() as running:
        yield running


@pytest.fixture(scope="module", params=MODES.values(), ids=MODES.keys())
def envoy(server, request):
    """Its caller has a session in which ids are translated, so that every body in it grows."""
    config = EnvoyConfig(server.port, request.param)
    # Else Envoy waits for a second before it ends the connection of a request that it has refused.
    config.connection_manager["delayed_close_timeout"] = "0.01s"
    with RealEnvoy(config) as running:
        client = SilentClient(running.port, [KEY], authority=AUTHORITY)
        assert client.initialize().status == 200
        assert client.list_tools().status == 200
        yield running


def exchange(envoy, fields, payload, method="POST", close=True):
    """The status lines that come back for these bytes, until Envoy ends the connection."""
    lines = [f"{method} /mcp HTTP/1.1", f"host: {AUTHORITY}", ": ".join(KEY), f"accept: {BOTH}", *fields]
    head = "\r\n".join([*lines, *(["connection: close"] if close else []), "", ""])
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=30) as connection:
        connection.sendall(head.encode("latin-1") + payload)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return [int(line.split(b" ")[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


REFUSED = {
    "length-and-chunked": ([f"content-length: {LENGTH}", CHUNKED], b"0\r\n\r\n" + INNER),
    "chunked-and-no-length": ([CHUNKED, "content-length: 0"], chunks([CALL])),
    "unknown-coding": ([f"content-length: {LENGTH}", "transfer-encoding: xchunked"], CALL),
    "chunked-is-not-the-last-coding": (["transfer-encoding: chunked, identity"], b"0\r\n\r\n" + INNER),
    "chunked-twice": ([CHUNKED, CHUNKED], chunks([CALL])),
    "space-before-the-colon": (["transfer-encoding : chunked", f"content-length: {LENGTH}"], CALL),
    "two-lengths": ([f"content-length: {LENGTH}", "content-length: 4"], CALL),
    "one-length-twice": ([f"content-length: {LENGTH}"] * 2, CALL),
    "a-list-of-lengths": ([f"content-length: {LENGTH}, {LENGTH}"], CALL),
    "a-sign": ([f"content-length: +{LENGTH}"], CALL),
    "a-negative-length": (["content-length: -1"], CALL),
    "a-hexadecimal-length": (["content-length: 0x2e"], CALL),
    "a-length-beyond-64-bits": ([f"content-length: {2**64 + LENGTH}"], CALL),
    "an-empty-length": (["content-length: "], CALL),
    "a-zero-in-a-header": (["x-odd: a\0b", f"content-length: {LENGTH}"], CALL),
}


@pytest.mark.parametrize(("fields", "payload"), REFUSED.values(), ids=REFUSED.keys())
def test_a_length_that_can_be_read_in_two_ways_reaches_no_server(envoy, server, fields, payload):
    before = len(server.requests)
    assert exchange(envoy, fields, payload) in ([400], [501])
    assert len(server.requests) == before


@pytest.mark.parametrize("size", [b"zz", b"-5", b"1%016x" % LENGTH])
@pytest.mark.parametrize("named", [True, False], ids=["own-id", "repaired"])
def test_a_chunk_that_can_not_be_read_is_envoys_affair_alone(envoy, server, size, named):
    """Its headers may have gone up already: still its client gets Envoy's 400, and the server is asked nothing."""
    session = SilentClient(envoy.port, [KEY], authority=AUTHORITY).list_tools().result["session"]
    before = len(server.requests)
    fields = [CHUNKED, *([f"mcp-session-id: {session}"] if named else [])]
    assert exchange(envoy, fields, size + b"\r\n" + CALL + b"\r\n0\r\n\r\n") == [400]
    assert len(server.requests) == before


TAKEN = {
    "a-length": ([f"content-length: {LENGTH}"], CALL),
    "leading-zeros": ([f"content-length: 000{LENGTH}"], CALL),
    "chunks": ([CHUNKED], chunks([CALL[:7], CALL[7:]])),
    "chunks-with-extensions": ([CHUNKED], b"%x;a=b\r\n" % LENGTH + CALL + b"\r\n0\r\n\r\n"),
    "trailers-that-say-a-length": (
        [CHUNKED],
        b"%x\r\n" % LENGTH + CALL + b"\r\n0\r\ncontent-length: 5\r\nmcp-session-id: x\r\n\r\n",
    ),
    "a-folded-line": (["x-odd: a", f" {CHUNKED}", f"content-length: {LENGTH}"], CALL),
    "a-carriage-return-alone": (["x-odd: a\rmcp-session-id: x", f"content-length: {LENGTH}"], CALL),
    "an-upgrade-to-h2c": (["upgrade: h2c", "http2-settings: AAMAAABk", f"content-length: {LENGTH}"], CALL),
}


@pytest.mark.parametrize(("fields", "payload"), TAKEN.values(), ids=TAKEN.keys())
def test_a_body_that_grows_goes_up_with_the_length_that_it_has(envoy, server, fields, payload):
    before = len(server.requests)
    assert exchange(envoy, fields, payload) == [200]
    [request] = server.requests[before:]
    assert len(request.body) > LENGTH and restored(request.body) == CALL
    assert len(request.all("content-length") + request.all("transfer-encoding")) == 1
    assert request.header("mcp-session-id") and request.header("mcp-session-id") != "x"


def test_a_header_that_is_named_in_connection_counts_for_nothing(envoy, server):
    """Envoy takes it away before the filter sees the request: here the credential, and the length."""
    before = len(server.requests)
    fields = [f"connection: close, content-length, {KEY[0]}, mcp-session-id", f"content-length: {LENGTH}"]
    assert exchange(envoy, [*fields, "mcp-session-id: session-1"], CALL, close=False) == [400]
    [request] = server.requests[before:]
    assert request.header("mcp-session-id") is None and request.header(KEY[0]) is None
    assert request.body == CALL


@pytest.mark.parametrize("comes_first", [True, False])
def test_of_two_session_ids_the_first_counts_and_both_go_up(envoy, server, comes_first):
    """An empty one before them counts for nothing. In its own session the filter changes JSON-RPC ids, in others none."""
    session = SilentClient(envoy.port, [KEY], authority=AUTHORITY).list_tools().result["session"]
    named = ["", session, "no-session"] if comes_first else ["", "no-session", session]
    before = len(server.requests)
    fields = [f"content-length: {LENGTH}", *(f"mcp-session-id: {name}".rstrip() for name in named)]
    exchange(envoy, fields, CALL)
    request = server.requests[before]
    assert request.all("mcp-session-id") == named
    assert restored(request.body) == CALL
    assert (request.body != CALL) == comes_first
    assert SilentClient(envoy.port, [KEY], authority=AUTHORITY).list_tools().result["session"] == session


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "POST"])
def test_a_body_is_no_request_whatever_the_method_and_whoever_answers(envoy, server, method):
    before = len(server.requests)
    exchange(envoy, [f"content-length: {len(INNER)}"], INNER, method)
    assert [request.path for request in server.requests[before:] if request.path != "/mcp"] == []


def test_a_request_that_never_ends_is_not_ended_by_the_next_one(envoy, server):
    """It says 4 GiB more than it has: what comes on its connection is its own, and nothing of it anybody else's."""
    before = len(server.requests)
    head = f"POST /mcp HTTP/1.1\r\nhost: {AUTHORITY}\r\n{': '.join(KEY)}\r\ncontent-length: {2**32 + LENGTH}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
        envoy.send_in_pieces(connection, [head.encode(), CALL, INNER])
        client = SilentClient(envoy.port, [KEY], authority=AUTHORITY)
        assert [client.list_tools().status for _ in range(4)] == [200] * 4
    assert [restored(request.body)[:9] for request in server.requests[before:]] == [b'{"jsonrpc'] * 4


def exchange_frames(envoy, fields, pieces):
    """What becomes of an HTTP/2 request with these fields, which nobody checks before Envoy: a status, or "refused"."""
    unchecked = {"header_encoding": None, "validate_outbound_headers": False, "normalize_outbound_headers": False}
    frames = H2Connection(H2Configuration(client_side=True, **unchecked))
    frames.initiate_connection()
    frames.send_headers(1, [(name.encode(), value.encode("latin-1")) for name, value in fields])
    for piece in pieces:
        frames.send_data(1, piece, end_stream=piece is pieces[-1])
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=30) as connection:
        connection.sendall(frames.data_to_send())
        while data := connection.recv(65536):
            for event in frames.receive_data(data):
                if isinstance(event, ResponseReceived):
                    return int(dict(event.headers)[b":status"])
                if isinstance(event, StreamReset | ConnectionTerminated):
                    return "refused"
    return "refused"


PSEUDO = [(":method", "POST"), (":scheme", "http"), (":path", "/mcp"), (":authority", AUTHORITY)]
FIELDS = [*PSEUDO, KEY, ("accept", BOTH)]
ODD_FIELDS = {
    "a-length-that-is-too-short": [("content-length", "10")],
    "a-length-that-is-too-long": [("content-length", "100")],
    "a-length-of-nothing": [("content-length", "0")],
    "a-length-beyond-32-bits": [("content-length", f"{2**32 + LENGTH}")],
    "a-length-beyond-64-bits": [("content-length", f"{2**64 + LENGTH}")],
    "a-sign": [("content-length", f"+{LENGTH}")],
    "two-lengths": [("content-length", f"{LENGTH}"), ("content-length", "5")],
    "one-length-twice": [("content-length", f"{LENGTH}")] * 2,
    "a-coding-of-the-older-version": [("transfer-encoding", "chunked")],
    "a-header-of-the-connection": [("connection", "mcp-session-id")],
    "capitals": [("Mcp-Session-Id", "x")],
    "a-line-break-in-a-value": [("x-odd", "a\r\nmcp-session-id: x")],
    "a-line-break-in-a-name": [("x-odd: a\r\ny", "z")],
    "a-zero": [("x-odd", "a\0b")],
    "two-paths": [(":path", "/inner")],
}


@pytest.mark.parametrize("odd", ODD_FIELDS.values(), ids=ODD_FIELDS.keys())
def test_odd_fields_of_http_2_make_no_other_request_of_it(envoy, server, odd):
    """Envoy 1.40 refuses them all, 1.36 takes a length with a sign, and one that is there twice."""
    before = len(server.requests)
    became = exchange_frames(envoy, [*FIELDS, *odd], [CALL])
    seen = server.requests[before:]
    if became == "refused":
        # Where headers can't wait they may have gone up; of what followed nothing is there.
        assert [(request.path, request.body) for request in seen] in ([], [("/mcp", b"")])
        return
    [request] = seen
    assert (became, restored(request.body)) == (200, CALL)
    assert len(request.all("content-length") + request.all("transfer-encoding")) == 1


def test_more_than_an_http_2_request_has_announced_goes_nowhere(envoy, server):
    before = len(server.requests)
    assert exchange_frames(envoy, [*FIELDS, ("content-length", f"{LENGTH}")], [CALL, INNER]) == "refused"
    seen = server.requests[before:]
    assert [restored(request.body) for request in seen] in ([], [CALL])


def test_the_authority_of_http_2_counts_and_not_a_host_beside_it(envoy, server):
    assert exchange_frames(envoy, [*FIELDS, ("host", "other.test")], [CALL]) == 200
    assert server.last.header("host") == AUTHORITY and server.last.header("mcp-session-id")
