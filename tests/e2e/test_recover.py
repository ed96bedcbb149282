"""`on_session_lost: "recover"`: a server restarts, and its clients don't notice."""

import asyncio
import contextlib
import http.client
import itertools
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mcp_servers
import pytest
from http1 import read_body, read_head
from real_envoy import EnvoyConfig, RealEnvoy
from recorder import Recorder
from restart_scene import CLIENTS, CallingClient, RestartedServer
from scripted_server import Answer, FakeMcpServer, error
from session_mates import Mate, call, compact, mates, messages, told_step_by_step
from silent_client import BOTH, INITIALIZE, SilentClient

LOOPBACK = "127.0.0.1"
JSON_BOTH = ["content-type: application/json", f"accept: {BOTH}"]
VERSION = INITIALIZE["protocolVersion"]
HELD = {"hold_request_headers": True}
# Without Envoy's flag, as on Istio's WasmPlugin and Envoy Gateway.
NOT_HELD = {"hold_request_headers": False}

keys = (f"recover-{number}" for number in itertools.count())


@pytest.fixture(scope="module", params=[HELD, NOT_HELD], ids=["headers-held", "headers-not-held"])
def settings(request):
    return request.param


@pytest.fixture(scope="module")
def running(fake_server, settings):
    with RealEnvoy(EnvoyConfig(fake_server.port, settings)) as envoy:
        yield envoy


def silent(port, key=None, session=None):
    named = [("mcp-session-id", session)] if session else []
    return SilentClient(port, [("x-api-key", key or next(keys)), *named], version=VERSION)


def opened(port, key=None):
    """A client in a session, and the session's id."""
    client = silent(port, key)
    session = client.initialize().session
    assert client.initialized().status == 202
    return client, session


# The head of a request, and a look at its body, in chunks or not.
REQUEST = re.compile(rb"POST \S+ HTTP/1.1\r\n(.*?)\r\n\r\n(?=(?:[0-9a-f]+\r\n)?([^\r]*))", re.DOTALL)


def initializes(recorder):
    """How many went up through this recorder without a session id: where headers are not held, one may come twice."""
    found = [pair for one in recorder.connections for pair in REQUEST.findall(bytes(one.requests))]
    alone = [body for head, body in found if b"mcp-session-id" not in head.lower()]
    return sum(bool(re.search(rb'"method": ?"initialize"', body)) for body in alone)


def methods(requests):
    return [json.loads(one.body)["method"] if one.body else one.method for one in requests]


def lose_all(fake_server):
    """What a restart does to its sessions; the number of requests that it has seen so far."""
    fake_server.sessions.clear()
    return len(fake_server.requests)


@contextlib.contextmanager
def answering(fake_server, special):
    """Meanwhile the server answers so, wherever `special` has an answer."""
    working = fake_server.answer
    fake_server.answer = lambda message: special(message) or working(message)
    try:
        yield
    finally:
        fake_server.answer = working


def named(kind, session):
    """The id that this kind's answers carry: rmcp's carry one only if they open a session."""
    return None if kind == "rmcp-sse" else session


def assert_a_restart_goes_unseen(kind, settings, calls_tools=True):
    """All kinds of clients at once, each in a session of its own, through one restart."""
    tool = "count" if kind in RESTARTED_ECHO_KINDS else "echo"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RestartedServer(kind))
        recorder = stack.enter_context(Recorder(server.port))
        envoy = stack.enter_context(RealEnvoy(EnvoyConfig(recorder.port, settings)))
        names = CLIENTS if calls_tools else ()
        fixed = {name: stack.enter_context(CallingClient(name, envoy.port)) for name in names}
        quiet, _ = opened(envoy.port)
        echoing, session = opened(envoy.port)
        echoing = silent(envoy.port, dict(echoing.headers)["x-api-key"], session)
        for client in fixed.values():
            client.wait_until_ready()
        sessions = 2 + len(fixed)
        assert initializes(recorder) == sessions
        for round in "before", "after", "again":
            if round == "after":
                server.restart()
            for name, client in fixed.items():
                assert client.call(f"{name} {round}", tool) is None
            for client in quiet, echoing:
                listed = client.list_tools()
                assert (listed.status, b'"tools":[{' in listed.body) == (200, True), listed
            # The one that the client knows.
            assert listed.session == named(kind, session)
        assert initializes(recorder) == 2 * sessions
        # A client's event stream may have been the first to notice. Where headers are not held, the server may refuse a
        # request before its body has come.
        assert envoy.counter("recovered") + envoy.counter("redirected") >= sessions
        assert envoy.counter("recover_failed") == 0
        # The client's own DELETE ends what took its session's place.
        assert echoing.delete().status in (200, 202, 204)
        assert echoing.list_tools().status in (400, 404)
        for client in fixed.values():
            assert client.end() == 0
    if tool == "count":
        counted = server.counted()
        assert sorted(counted) == sorted(f"{name} {round}" for name in fixed for round in ("before", "after", "again"))


RESTARTED_ECHO_KINDS = mcp_servers.ECHO_KINDS + mcp_servers.OTHER_ECHO_KINDS
# One SDK for each way to hold headers; `make test-all` runs them all.
SHORT = [("python-sse", HELD), ("everything", NOT_HELD)]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param(kind, settings, marks=() if (kind, settings) in SHORT else pytest.mark.long, id=f"{kind}-{name}")
        for kind in [*RESTARTED_ECHO_KINDS, "everything"]
        for name, settings in [("headers-held", HELD), ("headers-not-held", NOT_HELD)]
    ],
)
def test_a_restart_goes_unseen(kind, settings):
    assert_a_restart_goes_unseen(kind, settings)


@pytest.mark.litellm
@pytest.mark.parametrize("kind", mcp_servers.LITELLM_KINDS)
def test_a_restart_of_a_server_behind_litellm_goes_unseen(kind, settings):
    assert_a_restart_goes_unseen(kind, settings, calls_tools=kind.startswith("supergateway"))


@pytest.mark.parametrize("kind", ["typescript-sse"])
def test_event_streams_of_the_official_clients_reopen(kind, settings):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RestartedServer(kind))
        recorder = stack.enter_context(Recorder(server.port))
        envoy = stack.enter_context(RealEnvoy(EnvoyConfig(recorder.port, settings)))
        fixed = [stack.enter_context(CallingClient(name, envoy.port)) for name in CLIENTS]
        for client in fixed:
            client.wait_until_ready()
        recorder.wait_until(lambda: opened_streams(recorder) == len(CLIENTS))
        server.stop()
        recorder.connections.clear()
        server.start()
        recorder.wait_until(lambda: opened_streams(recorder) == len(CLIENTS))
        assert initializes(recorder) == len(CLIENTS)
        for number, client in enumerate(fixed):
            assert client.call(f"call {number}") is None


def opened_streams(recorder):
    """How many connections carry an event stream that somebody asked for."""
    return sum(
        one.requests.rpartition(b" /mcp HTTP/1.1")[0].endswith(b"GET")
        and one.answers.rpartition(b"HTTP/1.1 ")[2].startswith(b"200")
        for one in recorder.connections
    )


async def all_call(clients, words):
    """All of them at once, with the same ids: each gets its own answer. The ids in the answers' headers."""

    async def one(number, client):
        message = f"{words} {number}"
        answer = await client.post(compact(call(0, "count", message=message)))
        assert answer.first_line.split(" ")[1] == "200", answer
        [said] = [json.loads(text) for text in messages(answer)]
        assert (said["id"], said["result"]["content"][0]["text"]) == (0, f"Echo: {message}")
        return answer.header("mcp-session-id")

    return await asyncio.gather(*(one(number, client) for number, client in enumerate(clients)))


def and_long(kind, *others):
    return pytest.mark.parametrize("kind", [kind, *(pytest.param(other, marks=pytest.mark.long) for other in others)])


@and_long("typescript-sse", "python-json", "rmcp-sse")
def test_those_who_lose_a_session_together_open_one(kind, settings):
    async def scene(server, recorder, port):
        async with contextlib.AsyncExitStack() as stack:
            groups = [await stack.enter_async_context(mates(port, next(keys), 4)) for _ in range(4)]
            clients = [client for group in groups for client in group]
            await all_call(clients, "before")
            assert initializes(recorder) == 4
            server.restart()
            await all_call(clients, "after")
            assert initializes(recorder) == 8
            await all_call(clients, "again")
            assert initializes(recorder) == 8

    with RestartedServer(kind) as server, Recorder(server.port) as recorder:
        with RealEnvoy(EnvoyConfig(recorder.port, settings)) as envoy:
            asyncio.run(scene(server, recorder, envoy.port))
    counted = server.counted()
    assert sorted(counted) == sorted(f"{words} {number}" for words in ("before", "after", "again") for number in range(16))


@and_long("typescript-json", "python-sse", "rmcp-sse")
def test_a_session_that_was_reused_by_16_clients_is_opened_once_more(kind, settings):
    async def scene(server, recorder, port):
        async with mates(port, next(keys), 16, reuse=True) as clients:
            [session] = {client.session for client in clients}
            assert set(await all_call(clients, "before")) == {named(kind, session)}
            assert initializes(recorder) == 1
            server.restart()
            assert set(await all_call(clients, "after")) == {named(kind, session)}
            assert set(await all_call(clients, "again")) == {named(kind, session)}
            assert initializes(recorder) == 2
            # One that comes later is let into the successor.
            async with Mate(port, clients[0].key) as late:
                late.session = (await late.initialize()).header("mcp-session-id")
                await late.initialized()
                await all_call([*clients, late], "with another")
            assert initializes(recorder) == 2

    with RestartedServer(kind) as server, Recorder(server.port) as recorder:
        with RealEnvoy(EnvoyConfig(recorder.port, {**settings, "on_reinitialize": "reuse"})) as envoy:
            asyncio.run(scene(server, recorder, envoy.port))
    counted = server.counted()
    assert len(counted) == len(set(counted)) == 16 * 4 + 1


def test_a_server_that_is_down_is_said_to_be_down_and_back_the_next_time(settings):
    with RestartedServer("typescript-sse") as server, RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
        client, _ = opened(envoy.port)
        server.stop()
        assert [client.list_tools().status for _ in range(3)] == [503] * 3
        server.start()
        assert client.list_tools().status == 200
        assert envoy.counter("recover_failed") == 0


# Not mcp 1.12 and 1.26: theirs tell progress in the session's stream, not in the call's own.
@and_long("typescript-sse", "python-sse", "fastmcp-4-sse", "rmcp-sse")
def test_an_event_stream_is_not_held_back_before_or_after_a_recovery(kind, settings):
    async def scene(server, port):
        async with Mate(port, next(keys)) as mate:
            await mate.initialize()
            await mate.initialized()
            await told_step_by_step(mate, server, "before")
            server.restart()
            await all_call([mate], "after")
            await told_step_by_step(mate, server, "again")

    with RestartedServer(kind) as server, RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
        asyncio.run(scene(server, envoy.port))


def test_a_recovery_is_two_pings_a_new_session_and_the_request_again(running, fake_server):
    client, session = opened(running.port)
    before = lose_all(fake_server)
    answer = client.call("tools/call", {"name": "echo"})
    assert answer.status == 200
    assert running.outcome(answer) == "recovered"
    assert answer.session in (None, session)
    seen = fake_server.requests[before:]
    assert methods(seen) == [
        *("tools/call", "ping", "ping", "initialize", "notifications/initialized", "tools/call"),
    ]
    first, again = seen[0], seen[-1]
    # In a shared session the filter names each request by itself.
    assert json.loads(again.body) | {"id": 1} == json.loads(first.body) | {"id": 1}
    assert again.header("mcp-session-id") == answer.result["session"] != session
    for name in ("x-api-key", "mcp-protocol-version", "content-type", "accept"):
        assert again.header(name) == first.header(name)
    assert json.loads(seen[3].body)["params"] == INITIALIZE
    assert seen[3].header("mcp-session-id") is None
    # And the next one goes straight to the successor.
    before = len(fake_server.requests)
    assert client.list_tools().result["session"] == answer.result["session"]
    assert methods(fake_server.requests[before:]) == ["tools/list"]


def test_successors_of_successors_are_reached_by_the_first_id(running, fake_server):
    _, session = opened(running.port, key := next(keys))
    echoing = silent(running.port, key, session)
    seen = {session}
    for _ in range(5):
        lose_all(fake_server)
        seen.add(echoing.list_tools().result["session"])
        # Some are lost without anybody having used them.
        lose_all(fake_server)
        seen.add(echoing.list_tools().result["session"])
    assert len(seen) == 11
    assert echoing.delete().status == 200
    assert not seen & fake_server.sessions
    assert echoing.list_tools().status == 404


def test_a_notification_in_a_lost_session_is_taken(running, fake_server):
    client, _ = opened(running.port)
    before = lose_all(fake_server)
    assert client.initialized().status == 202
    assert methods(fake_server.requests[before:]).count("initialize") == 1


def test_a_stream_in_a_lost_session_ends_so_that_its_client_asks_again(running, fake_server):
    _, session = opened(running.port, key := next(keys))
    echoing = silent(running.port, key, session)
    lose_all(fake_server)
    ended = echoing.request("GET", headers=[("accept", "text/event-stream"), *echoing.version])
    assert (ended.status, ended.header("content-type")) == (200, "text/event-stream")
    assert ended.session in (session, None)
    assert b"data:" not in ended.body
    with echoing.stream() as stream:
        assert stream.status == 200
    assert fake_server.last.method == "GET"
    assert fake_server.last.header("mcp-session-id") in fake_server.sessions


def test_a_long_request_gets_the_servers_answer_once(running, fake_server):
    client, _ = opened(running.port)
    lose_all(fake_server)
    long = {"padding": "x" * 70_000}
    answer = client.call("tools/list", long)
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["message"] == "unknown session"
    assert running.outcome(answer) == "renewed"
    assert client.call("tools/list", long).status == 200


class EagerServer(FakeMcpServer):
    """It refuses a call in a session that it does not know by its headers alone, as some servers do; the end of that
    answer may come as late as that of the call."""

    def __init__(self, ends_answer):
        self.refused = 0
        self.ends_answer = ends_answer
        super().__init__()

    async def serve(self, reader, writer):
        while head := await read_head(reader):
            refusal = error(404, "unknown session")
            if head.header("x-call") and not self.refused:
                refusal = replace(refusal, goes_on=not self.ends_answer)
                await self.write(writer, refusal)
                with self.changed:
                    self.refused += 1
                    self.changed.notify_all()
                if self.ends_answer:
                    return
                await read_body(reader, head)
                writer.write(b"0\r\n\r\n")
            else:
                await self.write(writer, self._note(await read_body(reader, head)))


@pytest.mark.parametrize("ends_answer", [True, False])
def test_a_request_that_was_refused_before_all_of_it_came_is_answered_in_the_new_session(settings, ends_answer):
    """Envoy shows no more of a request once its answer has ended: then its client has to send it once more."""
    with EagerServer(ends_answer) as server, RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
        _, session = opened(envoy.port, key := next(keys))
        server.sessions.clear()
        body = compact(call(7, "echo", message="late"))
        lines = [f"host: {LOOPBACK}:{envoy.port}", f"x-api-key: {key}", f"mcp-session-id: {session}", "x-call: 1", *JSON_BOTH]
        head = "\r\n".join(["POST /mcp HTTP/1.1", *lines, f"content-length: {len(body)}", "", ""]).encode()
        with socket.create_connection((LOOPBACK, envoy.port)) as connection:
            connection.sendall(head)
            server.wait_until(lambda: server.refused == 1)
            connection.sendall(body)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            if ends_answer:
                assert (answer.status, answer.getheader("location")) == (307, "./mcp")
                assert answer.read() == b""
                connection.sendall(head + body)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
            assert (answer.status, json.loads(answer.read())["id"]) == (200, 7)
        assert envoy.counter("redirected") == ends_answer
        assert envoy.counter("recovered") == (not ends_answer)
        assert methods(server.requests).count("tools/call") == 1


def test_no_caller_comes_into_a_session_that_took_the_place_of_anothers(running, fake_server):
    clients = [opened(running.port) for _ in range(4)]
    lose_all(fake_server)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.list_tools) for client, _ in clients for _ in range(4)]
        found = [answer.result().result["session"] for answer in answers]
    successors = [set(found[at : at + 4]) for at in range(0, 16, 4)]
    assert all(len(one) == 1 for one in successors)
    assert len(set.union(*successors)) == 4
    # Who names the dead id of somebody else gets what the server says to it.
    stranger = silent(running.port, session=clients[0][1])
    assert stranger.list_tools().status == 404
    stranger.initialize()
    assert stranger.list_tools().status == 404


def test_a_request_that_the_new_session_refuses_is_not_sent_a_third_time(running, fake_server):
    client, _ = opened(running.port)
    before = lose_all(fake_server)
    answer = client.call("refuse", {"status": 404})
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["message"] == "refused for a reason of its own"
    assert methods(fake_server.requests[before:]).count("refuse") == 2


def test_a_server_that_opens_no_session_is_left_alone_for_a_second(running, fake_server):
    client, _ = opened(running.port)

    def no_initialize(message):
        return error(503, "busy") if b'"initialize"' in message.body else None

    before = lose_all(fake_server)
    with answering(fake_server, no_initialize):
        with ThreadPoolExecutor(4) as pool:
            answers = [one.result() for one in [pool.submit(client.list_tools) for _ in range(4)]]
        assert [answer.status for answer in answers] == [404] * 4
        assert {running.outcome(answer) for answer in answers} == {"recover_failed"}
        assert client.list_tools().status == 404
    assert methods(fake_server.requests[before:]).count("initialize") == 1
    tries = 0
    while client.list_tools().status != 200:
        tries += 1
        assert tries < 2000, "it stays lost"
    assert methods(fake_server.requests[before:]).count("initialize") == 2


def test_a_repeated_request_that_is_not_answered_is_given_up(fake_server, settings):
    never = Answer(200, [("content-type", "application/json")], goes_on=True)
    with RealEnvoy(EnvoyConfig(fake_server.port, {**settings, "replay_timeout": "1s"})) as envoy:
        client, session = opened(envoy.port)
        before = lose_all(fake_server)

        def silence(message):
            in_new_session = message.header("mcp-session-id") in fake_server.sessions
            return never if in_new_session and b'"tools/list"' in message.body else None

        with answering(fake_server, silence):
            answer = client.list_tools()
        assert answer.status == 504
        assert methods(fake_server.requests[before:]).count("tools/list") == 2
        assert client.list_tools().status == 200


def refuses_versions(message):
    return error(400, "Unsupported protocol version") if message.header("mcp-protocol-version") == VERSION else None


def test_a_version_that_the_server_refuses_is_left_out_from_then_on(running, fake_server):
    client = silent(running.port)
    session = client.initialize().session
    before = len(fake_server.requests)
    with answering(fake_server, refuses_versions):
        answer = client.list_tools()
        assert answer.result["session"] == session
        assert running.outcome(answer) == "version_repaired"
        seen = fake_server.requests[before:]
        assert methods(seen) == ["tools/list", "ping", "ping", "tools/list"]
        assert [one.header("mcp-protocol-version") for one in seen] == [VERSION, VERSION, None, None]
        for words in "two", "three":
            assert client.call_echo(words).status == 200
        assert methods(fake_server.requests[before:])[4:] == ["tools/call"] * 2
        # Lost sessions come back without it as well.
        lose_all(fake_server)
        assert client.list_tools().status == 200
        assert client.list_tools().status == 200


def test_a_refused_version_stays_refused_where_that_is_wanted(fake_server, settings):
    config = EnvoyConfig(fake_server.port, {**settings, "repair_protocol_version": False})
    with RealEnvoy(config) as envoy, answering(fake_server, refuses_versions):
        client = silent(envoy.port)
        session = client.initialize().session
        assert [client.list_tools().status for _ in range(2)] == [400] * 2
        without = SilentClient(envoy.port, [*client.headers, ("mcp-session-id", session)])
        assert without.list_tools().result["session"] == session


LIVES = 50


class Life:
    """Which life of the server it is, whether it is up, and how many calls each client has had answered in it."""

    def __init__(self, clients):
        self.number = 0
        self.is_up = True
        self.is_last = False
        self.answered = [0] * clients

    def now(self):
        return self.number, self.is_up

    def ends(self):
        self.is_up = False

    def begins(self):
        self.number += 1
        self.answered = [0] * len(self.answered)
        self.is_up = True


async def call_once(mate, message):
    """Why the call was not answered; None if it was, and then with what it asked for."""
    try:
        answer = await mate.post(compact(call(0, "count", message=message)))
        if answer is None:
            raise ConnectionError("the connection ended")
        if answer.first_line.split(" ")[1] != "200":
            return f"{answer.first_line} {answer.body[:200]}"
        [result] = [json.loads(text) for text in messages(answer)]
    except (ConnectionError, asyncio.IncompleteReadError, ValueError) as failure:
        # The server died amid its answer, and Envoy can only end that.
        await mate.__aexit__()
        await mate.__aenter__()
        return repr(failure)
    assert (result["id"], result["result"]["content"][0]["text"]) == (0, f"Echo: {message}")
    if mate.session is not None:
        assert answer.header("mcp-session-id") == mate.session
    return None


async def call_on_and_on(number, mate, life):
    """Calls whether the server is up or not. While it is, every call is answered."""
    for message in (f"{number}.{turn}" for turn in itertools.count()):
        if life.is_last:
            return
        before = life.now()
        failure = await call_once(mate, message)
        if before == life.now() and life.is_up:
            assert failure is None, f"in life {life.number} client {number}: {failure}"
            life.answered[number] += 1


@pytest.mark.long
@pytest.mark.parametrize("kind", ["typescript-sse", "python-json"])
def test_50_restarts_amid_calls_of_16_clients_harm_none(kind, settings):
    """Two groups of four that share a session each, and eight that echo the id of their own."""

    async def scene(server, recorder, port):
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            groups = [await stack.enter_async_context(mates(port, next(keys), 4)) for _ in range(2)]
            clients = [client for group in groups for client in group]
            for _ in range(8):
                [client] = await stack.enter_async_context(mates(port, next(keys), 1, reuse=True))
                clients.append(client)
            sessions = initializes(recorder)
            assert sessions == 10
            life = Life(len(clients))
            calling = [asyncio.create_task(call_on_and_on(*numbered, life)) for numbered in enumerate(clients)]
            # So that a failure ends the test at once.
            failing = asyncio.ensure_future(asyncio.gather(*calling))
            for _ in range(LIVES):
                while min(life.answered) < 2:
                    assert not failing.done(), failing.result()
                    await asyncio.sleep(0.01)
                opened = initializes(recorder)
                life.ends()
                await loop.run_in_executor(None, server.restart)
                life.begins()
                assert initializes(recorder) - opened <= sessions
            while min(life.answered) < 2:
                assert not failing.done(), failing.result()
                await asyncio.sleep(0.01)
            life.is_last = True
            await failing
            assert initializes(recorder) <= (LIVES + 1) * sessions
            return [client.session for client in clients]

    with RestartedServer(kind) as server, Recorder(server.port) as recorder:
        with RealEnvoy(EnvoyConfig(recorder.port, settings)) as envoy:
            asyncio.run(scene(server, recorder, envoy.port))
            assert envoy.counter("recover_failed") == 0
    counted = server.counted()
    assert len(counted) == len(set(counted)) >= LIVES * 16 * 2
