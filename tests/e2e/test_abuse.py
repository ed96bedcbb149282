"""Clients and servers that mean harm: no session reaches another caller, and their words stay words."""

import codecs
import gzip
import itertools
import json
import socket

import pytest
from real_envoy import EnvoyConfig, RealEnvoy, ReplicasConfig
from scripted_server import EVENT_STREAM, Answer, FakeMcpServer, reply
from silent_client import BOTH, INITIALIZE, SilentClient, request

authorities = (f"host-{number}.test" for number in itertools.count())
VICTIM, ATTACKER = [("x-api-key", "victim")], [("x-api-key", "attacker")]


@pytest.fixture(scope="module", params=[True, False], ids=["headers-held", "headers-not-held"])
def envoy(fake_server, request):
    with RealEnvoy(EnvoyConfig(fake_server.port, {"hold_request_headers": request.param})) as running:
        yield running


@pytest.fixture
def victim(envoy):
    client = SilentClient(envoy.port, VICTIM, authority=next(authorities))
    client.session = client.initialize().session
    yield client
    assert client.list_tools().result["session"] == client.session
    envoy.assert_filter_lives()


@pytest.fixture
def attacker(envoy, victim):
    """It knows all of its victim but the credential and the session id."""
    return SilentClient(envoy.port, ATTACKER, authority=victim.authority)


LIST = json.dumps(request("tools/list"))
OPEN = json.dumps(request("initialize", INITIALIZE))
# Servers read some of these as an initialize and others as a call, or not at all.
BODIES = {
    "two-methods-call-last": b'{"jsonrpc":"2.0","id":1,"method":"initialize","method":"tools/list"}',
    "two-methods-initialize-last": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"initialize"}',
    "an-escaped-method": b'{"jsonrpc":"2.0","id":1,"\\u006dethod":"tools\\u002flist"}',
    "a-method-in-other-letters": b'{"jsonrpc":"2.0","id":1,"Method":"initialize","METHOD":"x","method":"tools/list"}',
    "a-method-that-is-no-text": b'{"jsonrpc":"2.0","id":1,"method":["initialize"]}',
    "a-method-with-a-zero": b'{"jsonrpc":"2.0","id":1,"method":"initialize\\u0000"}',
    "a-byte-order-mark": codecs.BOM_UTF8 + LIST.encode(),
    "utf-16": LIST.encode("utf-16"),
    "utf-32": OPEN.encode("utf-32"),
    "no-utf-8": b'{"jsonrpc":"2.0","id":1,"x":"\xff","method":"tools/list"}',
    "deep": b'{"params":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b',"id":1,"method":"tools/list"}',
    "a-huge-number": b'{"jsonrpc":"2.0","id":' + b"9" * 4000 + b',"method":"tools/list"}',
    "a-number-beyond-all": b'{"jsonrpc":"2.0","id":1e999,"method":"tools/list"}',
    "an-answer-with-a-method": b'{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/list"}',
    "an-id-like-a-token": b'{"jsonrpc":"2.0","id":"mcpsf~00000000000000a1~1","method":"tools/list"}',
    "two-ids": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}',
    "two-messages": f"{LIST}\n{OPEN}".encode(),
    "a-comment-before": f"/* */{LIST}".encode(),
    "a-batch": f"[{OPEN},{LIST}]".encode(),
}
HEADERS = {
    "none": [],
    "an-empty-id": [("mcp-session-id", "")],
    "two-empty-ids": [("mcp-session-id", ""), ("mcp-session-id", "")],
    "an-id-with-underscores": [("mcp_session_id", "x")],
    "another-method": [("x-http-method-override", "DELETE"), ("x-original-url", "/mcp")],
    "another-host": [("x-forwarded-host", "other.test"), ("x-host", "other.test"), ("forwarded", "host=other.test")],
    "a-compressed-body": [("content-encoding", "gzip")],
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_no_form_of_a_request_brings_a_caller_into_anothers_session(fake_server, victim, attacker, body):
    for what, headers in HEADERS.items():
        before = len(fake_server.requests)
        sent = gzip.compress(body) if what == "a-compressed-body" else body
        attacker.request("POST", headers=[("content-type", "application/json"), ("accept", BOTH), *headers], body=sent)
        seen = fake_server.requests[before:]
        assert seen, what
        assert not any(victim.session in one.all("mcp-session-id") for one in seen), what


# As it comes from a client, before any route has rewritten it.
OTHER_PATHS = [
    *("/mcp/", "//mcp", "/mcp%2f", "/%6dcp", "/MCP", "/mcp;a=b", "/mcp%3fa", "/mcp%00", "/mcp\\", "/mcp/.", "/./mcp"),
    *("/x/../mcp", "/mcp/../mcp", "/mcp/..%2fmcp", "/a?/mcp", "/?/mcp"),
]


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_a_path_is_taken_to_the_letter(envoy, fake_server, victim, path):
    """Whatever a server makes of it: with another path a request gets no session, and opens none that is remembered."""
    assert victim.list_tools(path=path).status == 400
    assert fake_server.last.path == path and fake_server.last.header("mcp-session-id") is None
    opened = victim.initialize(path=path)
    assert envoy.outcome(opened) is None


@pytest.mark.parametrize("path", ["/mcp?", "/mcp??", "/mcp?x=/other", "/mcp?mcp-session-id=x"])
def test_a_query_is_no_part_of_a_path(fake_server, victim, path):
    assert victim.list_tools(path=path).result["session"] == victim.session
    assert fake_server.last.path == path


@pytest.mark.parametrize("mode", ["forward", "reuse", "queue"])
def test_a_path_of_60_kb_is_one_like_any_other(fake_server, mode):
    config = EnvoyConfig(fake_server.port, {"hold_request_headers": True, "paths": ["/mcp*"], "on_reinitialize": mode})
    config.connection_manager["max_request_headers_kb"] = 256
    with RealEnvoy(config) as envoy:
        client = SilentClient(envoy.port, VICTIM, authority=next(authorities))
        paths = [f"/mcp/{end}" + "a" * 60_000 for end in "xy"]
        sessions = [client.initialize(path=path).session for path in paths]
        assert [client.list_tools(path=path).result["session"] for path in paths] == sessions
        fake_server.sessions.clear()
        # Nothing so long is written down, so in line or not, each may be brought back or not.
        assert {client.list_tools(path=path).status for path in paths} <= {200, 404}


def test_a_whole_address_in_the_place_of_a_path_is_that_address(fake_server, victim):
    assert victim.list_tools(path=f"http://{victim.authority}/mcp").result["session"] == victim.session
    assert victim.list_tools(path="http://other.test/mcp").status == 400
    assert fake_server.last.header("host") == "other.test"


def test_who_knows_a_session_id_is_to_the_server_who_it_wants_and_learns_nothing_from_the_filter(fake_server, envoy):
    """A session id is a secret of the server's: the filter neither guards it nor hands it out."""
    victim = SilentClient(envoy.port, VICTIM, authority=next(authorities))
    attacker = SilentClient(envoy.port, ATTACKER, authority=victim.authority)
    session = victim.initialize().session
    stolen = [("accept", BOTH), ("mcp-session-id", session)]
    assert envoy.outcome(attacker.list_tools(headers=stolen)) == "passed_own_id"
    # That it has used it once makes it no session of its own.
    assert attacker.list_tools().status == 400
    ended = attacker.request("DELETE", headers=stolen)
    assert envoy.outcome(ended) == "passed_own_id"
    # Its owner gets a new one. That is nothing to who knows the old one.
    renewed = victim.list_tools()
    assert envoy.outcome(renewed) == "recovered"
    assert renewed.result["session"] != session
    assert attacker.list_tools(headers=stolen).status == 404


ODD_IDS = {
    "a-space": b"a b",
    "a-tab": b"a\tb",
    "not-ascii": "sitzung-\u00e9".encode(),
    "a-control-character": b"a\x01b",
    "delete": b"a\x7fb",
    "too-long": b"a" * 4097,
}


class Issuer(FakeMcpServer):
    """Gives out this id, as it is."""

    def __init__(self):
        self.id = None
        super().__init__()

    def _answer(self, request):
        answer = super()._answer(request)
        session = answer.headers[-1][1] if answer.headers and answer.headers[-1][0] == "mcp-session-id" else None
        if session is None or self.id is None:
            return answer
        self.sessions.add(self.id.decode("latin-1"))
        return Answer(answer.status, [*answer.headers[:-1], ("mcp-session-id", self.id.decode("latin-1"))], answer.body)


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as running:
        yield running


@pytest.fixture(scope="module")
def issuers_envoy(issuer):
    with RealEnvoy(EnvoyConfig(issuer.port, {"hold_request_headers": True})) as running:
        yield running


@pytest.mark.parametrize("id", ODD_IDS.values(), ids=ODD_IDS.keys())
def test_an_id_that_is_none_goes_into_no_header(issuer, issuers_envoy, id):
    issuer.id = id
    client = SilentClient(issuers_envoy.port, authority=next(authorities))
    client.initialize()
    assert client.list_tools().status == 400
    assert issuer.last.header("mcp-session-id") is None


@pytest.mark.parametrize("end", [b"\r\nx-injected: 1", b"\nx-injected: 1", b"\r x-injected: 1", b"\0x"])
def test_an_id_never_becomes_a_second_header(issuer, issuers_envoy, end):
    issuer.id = b"abc" + end
    client = SilentClient(issuers_envoy.port, authority=next(authorities))
    client.initialize()
    client.list_tools()
    assert issuer.last.header("x-injected") is None
    assert issuer.last.header("mcp-session-id") in (None, "abc")


@pytest.mark.parametrize("id", [b"a,b", b"a;b=c", b'"a"', b"a:b", b"<script>"])
def test_an_id_with_signs_that_mean_something_elsewhere_goes_up_as_it_is(issuer, issuers_envoy, id):
    issuer.id = id
    client = SilentClient(issuers_envoy.port, authority=next(authorities))
    assert client.initialize().session == id.decode()
    assert client.list_tools().status == 200
    assert issuer.last.header("mcp-session-id") == id.decode()


def test_one_id_for_two_callers_makes_no_caller_of_them(issuer, issuers_envoy):
    """What a server does with one id is its affair; to the filter they are two sessions with two ends."""
    issuer.id = b"for-everybody"
    authority = next(authorities)
    one, other = (SilentClient(issuers_envoy.port, [key], authority=authority) for key in (*VICTIM, *ATTACKER))
    for client in (one, other):
        client.initialize()
    assert one.delete().status == 200
    issuer.sessions.add("for-everybody")
    assert one.list_tools().status == 400
    assert other.list_tools().result["session"] == "for-everybody"


class PrettyServer(FakeMcpServer):
    """Its InitializeResult would end an event, begin another and close a message, if it were put there as it is."""

    SAYS = "\n\ndata: {}\n\r\n</script>\"}}"

    def _answer(self, message):
        answer = super()._answer(message)
        if message.method == "POST" and b'"initialize"' in message.body:
            result = {**json.loads(answer.body)["result"], "instructions": self.SAYS}
            honest = reply({"id": "another's"}, result, answer.headers[-1][1])
            body = json.dumps(json.loads(honest.body), indent=2).replace("\n", "\r\n").encode()
            return Answer(200, honest.headers, body)
        return answer


def test_what_a_server_says_of_itself_is_handed_on_as_one_result_for_the_id_that_was_asked():
    with PrettyServer() as server, RealEnvoy(EnvoyConfig(server.port, {"on_reinitialize": "reuse"})) as envoy:
        clients = [SilentClient(envoy.port, VICTIM) for _ in range(3)]
        clients[0].initialize()
        accepts = [("accept", "text/event-stream")], [("accept", "application/json")]
        for number, (client, headers) in enumerate(zip(clients[1:], accepts, strict=True)):
            told = client.post(request("initialize", INITIALIZE, number=f"{number}"), headers=headers)
            assert told.result["instructions"] == PrettyServer.SAYS
            assert envoy.outcome(told) == "reused"
            lines = told.body.splitlines()
            if EVENT_STREAM[1] in told.header("content-type"):
                assert [line[:6] for line in lines if line] == [b"event:", b"data: "]
            [text] = [line.removeprefix(b"data: ") for line in lines if b"jsonrpc" in line]
            assert json.loads(text)["id"] == f"{number}"
        stranger = SilentClient(envoy.port, ATTACKER)
        assert envoy.outcome(stranger.initialize()) == "learned"


HOST = "x-mcp-upstream-host"


SPELLINGS = [[HOST, HOST], [HOST.upper()], [HOST.replace("-", "_")], [f"x-envoy-{HOST}", "x-envoy-original-dst-host"]]


def test_no_spelling_of_the_host_header_chooses_a_host():
    with FakeMcpServer("a") as one, FakeMcpServer("b") as other:
        config = ReplicasConfig([one.port, other.port, other.port], {"upstream_host_header": HOST})
        with RealEnvoy(config) as envoy:
            for names in SPELLINGS:
                forged = [("accept", BOTH), *((name, f"127.0.0.1:{one.port}") for name in names)]
                # So many that chance leaves out neither host: all on the one that has two places in three happens once in 10^8.
                clients = [SilentClient(envoy.port, [("x-api-key", f"{names} {number}")]) for number in range(48)]
                sessions = [client.initialize(headers=forged).session for client in clients]
                assert {session[0] for session in sessions} == {"a", "b"}, names
                assert [client.list_tools(headers=forged).result["session"] for client in clients] == sessions, names
            assert not any(seen.all(HOST) for seen in [*one.requests, *other.requests])


def test_no_line_of_a_log_is_made_by_a_client(envoy, victim):
    """What a client says of itself stands in no line of the filter's, and in the access log's never as a second one."""
    before = len(envoy.process.err.lines), len(envoy.process.out.lines)
    word = "forged-line"
    head = f"POST /mcp?{word} HTTP/1.1\r\nhost: {word}\r\nx-api-key: {word}\r\nmcp-session-id: {word}\r\n"
    for end in ("\r", "\\n[critical] ", "%0a[critical] ", "\x1b[31m"):
        with socket.create_connection(("127.0.0.1", envoy.port), timeout=30) as connection:
            fields = f"user-agent: x{end}{word}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"
            connection.sendall(f"{head}{fields}{{}}".encode())
            while connection.recv(65536):
                pass
    answer = victim.list_tools()
    assert envoy.outcome(answer) == "repaired"
    assert not [line for line in envoy.process.err.lines[before[0] :] if word in line]
    assert not [line for line in envoy.process.out.lines[before[1] :] if word in line]


def test_envoys_request_timeout_ends_a_body_that_never_comes(fake_server):
    config = EnvoyConfig(fake_server.port, {"hold_request_headers": True})
    config.connection_manager["request_timeout"] = "0.2s"
    with RealEnvoy(config) as envoy:
        client = SilentClient(envoy.port, VICTIM, authority=next(authorities))
        session = client.initialize().session
        head = f"POST /mcp HTTP/1.1\r\nhost: {client.authority}\r\nx-api-key: victim\r\ncontent-length: 99\r\n\r\n"
        for sent in (b"", b'{"jsonrpc":"2.0",', b'{"method":"tools/list",'):
            with socket.create_connection(("127.0.0.1", envoy.port), timeout=30) as connection:
                connection.sendall(head.encode() + sent)
                assert connection.recv(65536).startswith(b"HTTP/1.1 408"), sent
        assert client.list_tools().result["session"] == session
