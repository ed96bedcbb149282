"""What envoy/TROUBLESHOOTING.md tells its readers to look for is what a real Envoy shows when that goes wrong.

A sign is what the access log says of a request, in four words: status, flags, details, outcome.
"""

import gzip
import http.client
import itertools
import json
import re
import socket
from pathlib import Path

import pytest
import yaml
from http1 import read_body, read_head
from processes import ROOT, start_envoy
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import JSON, Answer, FakeMcpServer, error
from silent_client import BOTH, Reply, SilentClient, request

PAGE = (ROOT / "envoy/TROUBLESHOOTING.md").read_text()
SIGN = re.compile(r"`(\d+ \S+ \S+ [a-z_-]+)`")
LINE = r'"\S+ \S+" (\d+ \S+ \S+) (\d+)ms upstream=(\S+) request={} mcp_session=(\S+)$'
HELD = {"hold_request_headers": True}
ALREADY_CONNECTED = "Already connected to a transport. Call close() before connecting to a new transport"

keys = (f"trouble-{number}" for number in itertools.count())
hosts = (f"host-{number}.test" for number in itertools.count())


def sign_of(match):
    """The four words; what is in braces is Envoy's detail of a detail."""
    words = re.sub(r"\{.*\}", "{…}", match[1])
    return f"{words} {match[4]}"


def sign(envoy, answer):
    found = sign_of(envoy.process.out.wait_for(LINE.format(re.escape(answer.header("x-request-id")))))
    assert f"`{found}`" in PAGE
    return found


def sign_of_the_one_that_left(envoy):
    found = sign_of(envoy.process.out.wait_for(LINE.format(r"\S+").replace(r"(\d+ ", "(0 ")))
    assert f"`{found}`" in PAGE
    return found


def test_every_sign_on_the_page_is_provoked_here():
    here = Path(__file__).read_text()
    assert [one for one in SIGN.findall(PAGE) if f'"{one}"' not in here] == []


class TroubledServer(FakeMcpServer):
    """It does as a request says: `mute`, `compressed`, x-refuse-early. As strict about Accept as the SDKs are."""

    def __init__(self):
        self.holds_one = False
        self.opens_sessions = True
        self.muted = 0
        self.refused_early = 0
        super().__init__()

    async def serve(self, reader, writer):
        while head := await read_head(reader):
            if head.header("x-refuse-early") and not self.refused_early:
                await self.write(writer, error(404, "unknown session"))
                with self.changed:
                    self.refused_early += 1
                    self.changed.notify_all()
                return
            message = await read_body(reader, head)
            if b'"mute"' in message.body:
                with self.changed:
                    self.muted += 1
                    self.changed.notify_all()
                await reader.read()
                return
            answer = self._note(message)
            await self.write(writer, answer)
            if answer.goes_on:
                await reader.read()
                return

    def _answer(self, message):
        if message.method == "POST" and message.header("accept") != BOTH:
            return error(406, "Not Acceptable: Client must accept both application/json and text/event-stream")
        if b'"initialize"' in message.body and not self.opens_sessions:
            return error(503, "busy")
        if b'"initialize"' in message.body and self.holds_one and self.sessions:
            return error(500, ALREADY_CONNECTED)
        if b'"compressed"' in message.body:
            return Answer(200, [JSON, ("content-encoding", "gzip")], gzip.compress(b"{}"))
        return super()._answer(message)


@pytest.fixture(scope="module")
def server():
    with TroubledServer() as running:
        yield running


def to(name, **route):
    return {"match": {"prefix": "/", "headers": [{"name": "x-to", "string_match": {"exact": name}}]}, "route": route}


@pytest.fixture(scope="module")
def envoy(server):
    """Routes that lead astray where a header says so, beside a good one."""
    settings = {**HELD, "caller": {"anonymous": "refuse"}, "replay_timeout": "1s"}
    config = EnvoyConfig(server.port, settings)
    [host] = config.connection_manager["route_config"]["virtual_hosts"]
    host["domains"] = ["*.test"]
    host["routes"][:0] = [
        to("empty", cluster="empty"),
        to("hasty", cluster="mcp_server", timeout="1s"),
        to("idle", cluster="mcp_server", timeout="0s", idle_timeout="1s"),
    ]
    config.tree["static_resources"]["clusters"].append({"name": "empty", "type": "STATIC"})
    with RealEnvoy(config) as running:
        yield running


def client_of(envoy, *headers):
    """A caller, at a server, that no other test has used."""
    return SilentClient(envoy.port, [("x-api-key", next(keys)), *headers], authority=next(hosts))


@pytest.fixture
def client(envoy):
    """One whose session is open."""
    client = client_of(envoy)
    client.session = client.initialize().session
    return client


def lose(server):
    with server.changed:
        server.sessions.clear()


# 400


def test_no_session(envoy):
    assert sign(envoy, client_of(envoy).list_tools()) == "400 - via_upstream passed_no_session"


def test_no_caller(envoy):
    stranger = SilentClient(envoy.port, authority=next(hosts))
    stranger.initialize()
    assert sign(envoy, stranger.list_tools()) == "400 - via_upstream passed_no_caller"


def test_a_method_that_comes_late_in_a_long_body(envoy, client):
    late = {"jsonrpc": "2.0", "id": 1, "params": {"filler": "a" * 1_000_000}, "method": "tools/list"}
    assert sign(envoy, client.post(late)) == "400 - via_upstream passed_too_large"


@pytest.mark.parametrize("where", [{"path": "/mcp/"}, {"headers": [("accept", BOTH), ("x-session-filter", "off")]}])
def test_a_path_or_a_route_that_the_filter_does_not_look_at(envoy, client, where):
    assert sign(envoy, client.list_tools(**where)) == "400 - via_upstream -"


def test_a_version_without_sessions(envoy):
    modern = SilentClient(envoy.port, [("x-api-key", next(keys))], authority=next(hosts), version="2026-07-28")
    assert sign(envoy, modern.list_tools()) == "400 - via_upstream passed_sessionless"


def test_a_refusal_for_a_reason_of_the_requests_own(envoy, client):
    assert sign(envoy, client.call("refuse", {"status": 400})) == "400 - via_upstream repaired"


def test_a_request_that_is_no_http(envoy):
    with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
        connection.sendall(b"POST /mcp HTTP/1.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    found = sign_of(envoy.process.out.wait_for(LINE.format("-")))
    assert found == "400 - missing_host_header -"
    assert f"`{found}`" in PAGE


def test_observing(server):
    with RealEnvoy(EnvoyConfig(server.port, {**HELD, "mode": "observe"})) as envoy:
        client = client_of(envoy)
        client.initialize()
        assert sign(envoy, client.list_tools()) == "400 - via_upstream would_repair"


# 404


def test_no_route(envoy):
    astray = SilentClient(envoy.port, [("x-api-key", next(keys))], authority="elsewhere.example")
    assert sign(envoy, astray.initialize()) == "404 NR route_not_found passed_no_cluster"


def test_an_id_that_the_filter_knows_nothing_of(envoy):
    echoing = client_of(envoy, ("mcp-session-id", "long-forgotten"))
    assert sign(envoy, echoing.list_tools()) == "404 - via_upstream passed_own_id"


def test_a_recovery_that_fails(envoy, server, client):
    lose(server)
    server.opens_sessions = False
    try:
        answer = client.list_tools()
    finally:
        server.opens_sessions = True
    assert sign(envoy, answer) == "404 - via_upstream recover_failed"
    assert envoy.counter("recover_failed") == 1


def test_a_request_that_is_too_long_to_be_sent_again(envoy, server, client):
    lose(server)
    long = {"padding": "x" * 70_000}
    assert sign(envoy, client.call("tools/list", long)) == "404 - via_upstream renewed"
    assert client.call("tools/list", long).status == 200


def test_a_session_that_is_forgotten(server):
    with RealEnvoy(EnvoyConfig(server.port, {**HELD, "on_session_lost": "forget"})) as envoy:
        client = client_of(envoy)
        client.initialize()
        lose(server)
        assert sign(envoy, client.list_tools()) == "404 - via_upstream lost"
        assert sign(envoy, client.list_tools()) == "400 - via_upstream passed_no_session"
        assert envoy.counter("lost") == 1


# 406, 413, 307


def test_an_accept_that_names_half_of_it(envoy, client):
    half = [("accept", "application/json")]
    assert sign(envoy, client.list_tools(headers=half)) == "406 - via_upstream repaired"
    assert sign(envoy, client_of(envoy).initialize(headers=half)) == "406 - via_upstream passed_initialize"
    assert client.list_tools(headers=[("accept", "*/*")]).status == 200


def test_a_buffer_that_is_too_small(server):
    config = EnvoyConfig(server.port, HELD)
    config.listener["per_connection_buffer_limit_bytes"] = 16_384
    with RealEnvoy(config) as envoy:
        client = client_of(envoy)
        client.initialize()
        late = {"jsonrpc": "2.0", "id": 1, "params": {"filler": "a" * 60_000}, "method": "tools/list"}
        assert sign(envoy, client.post(late)) == "413 - request_payload_too_large passed_unknown_method"
        assert envoy.stats("^http.mcp.downstream_rq_too_large$") == {"http.mcp.downstream_rq_too_large": 1}


def test_a_refusal_before_all_of_a_request_came(envoy, server, client):
    lose(server)
    body = json.dumps(request("tools/list")).encode()
    fields = [("host", client.authority), *client.headers, ("accept", BOTH), ("x-refuse-early", "1")]
    fields += [("mcp-session-id", client.session), ("content-length", str(len(body)))]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
        connection.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode())
        server.wait_until(lambda: server.refused_early == 1)
        connection.sendall(body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 307
        name = answer.getheader("x-request-id")
    found = sign_of(envoy.process.out.wait_for(LINE.format(re.escape(name))))
    assert found == "307 - mcp_session_filter redirected"
    assert f"`{found}`" in PAGE


# 500, and what "reuse" answers


def test_a_server_that_holds_one_session(envoy, server):
    lose(server)
    server.holds_one = True
    try:
        client = client_of(envoy)
        client.initialize()
        answer = client.initialize()
    finally:
        server.holds_one = False
    assert ALREADY_CONNECTED in answer.body.decode()
    assert sign(envoy, answer) == "500 - via_upstream passed_initialize"


@pytest.fixture(scope="module")
def reusing(server):
    config = EnvoyConfig(server.port, {**HELD, "on_reinitialize": "reuse", "replay_timeout": "1s"})
    with RealEnvoy(config) as running:
        yield running


def test_a_server_that_an_older_session_blocks(reusing, server):
    lose(server)
    server.holds_one = True
    try:
        SilentClient(server.port).initialize()
        answer = client_of(reusing).initialize()
    finally:
        server.holds_one = False
    assert sign(reusing, answer) == "500 - mcp_session_filter passed_initialize"


def test_a_shared_session_has_no_stream(reusing):
    client = client_of(reusing)
    client.initialize()
    answer = client.request("GET", headers=[("accept", "text/event-stream")])
    assert sign(reusing, answer) == "405 - mcp_session_filter answered_locally"


def test_a_route_that_rewrites_is_not_known(server):
    config = EnvoyConfig(server.port, {**HELD, "on_reinitialize": "reuse"})
    config.connection_manager["route_config"]["virtual_hosts"][0]["routes"][-1]["route"]["prefix_rewrite"] = "/inside/"
    working = server.answer
    server.answer = lambda message: working(message) if message.path == "/inside/mcp" else error(404, "not here")
    try:
        with RealEnvoy(config) as envoy:
            assert sign(envoy, client_of(envoy).initialize()) == "404 - mcp_session_filter passed_initialize"
    finally:
        server.answer = working


def test_an_initialize_that_nobody_answers(reusing, server):
    working = server.answer
    server.answer = lambda _: Answer(200, [JSON], goes_on=True)
    try:
        answer = client_of(reusing).initialize()
    finally:
        server.answer = working
    assert sign(reusing, answer) == "504 - mcp_session_filter passed_initialize"


# 503, 504, and streams that break off


def test_a_server_that_is_down():
    with TroubledServer() as server:
        config = EnvoyConfig(server.port, HELD)
        # Else Envoy would find its connection closed before it finds nobody there.
        cluster = config.tree["static_resources"]["clusters"][0]
        cluster["max_requests_per_connection"] = 1
        running = RealEnvoy(config)
        client = client_of(running)
        client.initialize()
    with running as envoy:
        assert sign(envoy, client.list_tools()) == "503 UF upstream_reset_before_response_started{…} repaired"
        assert f"mcp_server::127.0.0.1:{server.port}::cx_connect_fail::1\n" in envoy._get("/clusters")


def test_a_cluster_of_nobody(envoy):
    answer = client_of(envoy, ("x-to", "empty")).initialize()
    assert sign(envoy, answer) == "503 UH no_healthy_upstream passed_no_session"


def test_a_line_that_is_too_long(server):
    settings = {**HELD, "on_reinitialize": "queue", "session": {"queue_timeout": "1s"}}
    with RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
        first, second, third = (SilentClient(envoy.port, [("x-api-key", next(keys))]) for _ in range(3))
        first.initialize()
        answer = second.initialize()
        assert sign(envoy, answer) == "503 - mcp_session_filter queue_refused"
        assert int(answer.header("retry-after")) > 0
        assert (envoy.counter("queued"), envoy.counter("queue_refused")) == (1, 1)
        leaving = third.send("POST", headers=[("accept", BOTH)], body=json.dumps(request("initialize", {})).encode())
        wait_for(lambda: envoy.counter("queued") == 2)
        leaving.close()
        assert sign_of_the_one_that_left(envoy) == "0 DC downstream_remote_disconnect client_left"


def wait_for(happened):
    """Envoy's stats come without a word: they have to be asked for."""
    for _ in range(10_000):
        if happened():
            return
    raise AssertionError("it does not happen")


def test_a_repeated_request_that_takes_too_long(envoy, server, client):
    lose(server)
    working = server.answer

    def silence(message):
        if message.header("mcp-session-id") in server.sessions and b'"tools/list"' in message.body:
            return Answer(200, [JSON], goes_on=True)
        return working(message)

    server.answer = silence
    try:
        answer = client.list_tools()
    finally:
        server.answer = working
    assert sign(envoy, answer) == "504 - mcp_session_filter recovered"


def test_a_route_with_a_timeout(envoy, server):
    hasty = client_of(envoy, ("x-to", "hasty"))
    hasty.initialize()
    assert sign(envoy, hasty.call("mute")) == "504 UT response_timeout repaired"
    assert sign(envoy, broken_stream(hasty)) == "200 UT response_timeout repaired"


def test_a_stream_that_is_silent_for_too_long(envoy, server):
    idle = client_of(envoy, ("x-to", "idle"))
    idle.initialize()
    assert sign(envoy, broken_stream(idle)) == "200 SI stream_idle_timeout repaired"


def broken_stream(client):
    """The head of an event stream that Envoy breaks off."""
    answer = client.send("GET", headers=[("accept", "text/event-stream")]).getresponse()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    return Reply(answer.status, answer.getheaders(), b"")


# Hangs, and waits


def test_a_server_that_does_not_answer(envoy, server, client):
    before = server.muted
    waiting = client.send("POST", headers=[("accept", BOTH)], body=json.dumps(request("mute")).encode())
    server.wait_until(lambda: server.muted > before)
    active = envoy.stats("^(http.mcp.downstream|cluster.mcp_server.upstream)_rq_active$")
    assert active == {"http.mcp.downstream_rq_active": 1, "cluster.mcp_server.upstream_rq_active": 1}
    assert all(name in PAGE for name in active)
    waiting.close()
    assert sign_of_the_one_that_left(envoy) == "0 DC downstream_remote_disconnect repaired"


def test_an_envoy_that_does_not_hold_headers(server):
    config = EnvoyConfig(server.port, HELD)
    config.plugin["allow_on_headers_stop_iteration"] = False
    with RealEnvoy(config) as envoy:
        client = client_of(envoy)
        client.initialize()
        answer = client.list_tools()
        assert sign(envoy, answer) == "400 - via_upstream passed_timeout"
        assert envoy.counter("hold_unsupported") == 1
        duration = envoy.process.out.wait_for(LINE.format(re.escape(answer.header("x-request-id"))))[2]
        # Of a client that never waits this is what tells.
        assert int(duration) >= 750


def test_a_compressed_answer_in_a_shared_session(envoy, client):
    assert client.call("compressed").status == 200
    assert envoy.counter("untranslated") == 1


# Somebody else's session


@pytest.mark.parametrize("trusted", [True, False])
def test_clients_that_choose_their_address(server, trusted):
    config = EnvoyConfig(server.port, HELD)
    if not trusted:
        del config.connection_manager["use_remote_address"]
    with RealEnvoy(config) as envoy:
        address, host = [("x-forwarded-for", "192.0.2.7")], next(hosts)
        SilentClient(envoy.port, address, authority=host).initialize()
        thief = SilentClient(envoy.port, address, authority=host, source="127.0.0.2")
        expected = "400 - via_upstream passed_no_session" if trusted else "200 - via_upstream repaired"
        assert sign(envoy, thief.list_tools()) == expected
        assert ('"use_remote_address": true' in envoy._get("/config_dump")) == trusted


def test_callers_with_many_sessions(server):
    with RealEnvoy(EnvoyConfig(server.port, {**HELD, "memory": {"per_caller": 1}})) as envoy:
        one, other = (SilentClient(envoy.port, authority=next(hosts)) for _ in range(2))
        one.initialize()
        other.initialize()
        assert sign(envoy, one.list_tools()) == "400 - via_upstream passed_no_session"
        assert envoy.counter("evicted") == 1


# An Envoy that does not start, or does not take the filter


REFUSED = {
    "a wrong key": (
        lambda plugin: plugin["configuration"].update(value='{"hold_request_header": true}'),
        "configuration refused: hold_request_header: found true, expected no such key",
    ),
    "a Struct": (
        lambda plugin: plugin["configuration"].update(
            {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"hold_request_headers": True}}
        ),
        "expected JSON (in Envoy: a google.protobuf.StringValue that holds it)",
    ),
    "no module": (
        lambda plugin: local(plugin).update(filename="/nowhere/filter.wasm"),
        "Invalid path: /nowhere/filter.wasm",
    ),
    "another file": (
        lambda plugin: local(plugin).update(filename=str(ROOT / "README.md")),
        "Failed to parse corrupted Wasm module",
    ),
    "no runtime": (
        lambda plugin: plugin["vm_config"].update(runtime="envoy.wasm.runtime.wamr"),
        "Envoy was compiled without support for it",
    ),
    "an older Envoy": (
        lambda plugin: plugin.update(allow_on_headers_stop=True),
        "'allow_on_headers_stop') has unknown fields",
    ),
}


def local(plugin):
    return plugin["vm_config"]["code"]["local"]


@pytest.mark.parametrize(("spoil", "words"), REFUSED.values(), ids=REFUSED)
def test_an_envoy_that_does_not_start_says_why(tmp_path, spoil, words):
    config = EnvoyConfig(1, HELD)
    spoil(config.plugin)
    with pytest.raises(RuntimeError, match=re.escape(words)):
        start_envoy(config.write(tmp_path))


def test_a_listener_that_comes_later_is_rejected_and_counted(server, tmp_path):
    """As where a control plane sends it: Envoy itself goes on."""
    config = EnvoyConfig(server.port, '{"mod": "repair"}')
    listener = config.tree["static_resources"].pop("listeners")[0]
    typed = {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", **listener}
    (tmp_path / "listeners.yaml").write_text(yaml.safe_dump({"resources": [typed]}))
    source = {"path_config_source": {"path": str(tmp_path / "listeners.yaml")}, "resource_api_version": "V3"}
    config.tree["dynamic_resources"] = {"lds_config": source}
    config.tree["node"] = {"id": "one", "cluster": "one"}
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(config.tree))
    with start_envoy(path, "--admin-address-path", tmp_path / "admin") as process:
        connection = http.client.HTTPConnection((tmp_path / "admin").read_text(), timeout=10)

        def get(path):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

        assert get("/stats?filter=update_rejected") == "listener_manager.lds.update_rejected: 1\n"
        assert get("/listeners") == ""
        assert "mcp_session" not in get("/stats/prometheus")
        process.err.wait_for("configuration refused: mod: ")
    assert "listener_manager.lds.update_rejected: 1" in PAGE
