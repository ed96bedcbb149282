"""The first event of an answer reaches the client before the second is made: how much later than without the filter?"""

import asyncio
import contextlib
import random
import socket
import statistics
import time

import pytest
from http1 import read_message
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import FakeMcpServer
from session_mates import call, chunks, compact, encode
from silent_client import BOTH, SilentClient

WARM_UP = 100
ROUNDS = 1000
# No event takes so long, however busy the machine is.
PATIENCE = 10
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}\n\n'
END = b"0\r\n\r\n"


class TwoEventServer(FakeMcpServer):
    """Answers a call by two events, the second once it is told to go on."""

    def __init__(self):
        self._told = asyncio.Semaphore(0)
        super().__init__()

    def go_on(self):
        self._loop.call_soon_threadsafe(self._told.release)

    async def serve(self, reader, writer):
        while request := await read_message(reader):
            answer = self._note(request)
            if b'"tools/call"' not in request.body:
                await self.write(writer, answer)
                continue
            assert answer.status == 200, answer
            writer.write(HEAD + chunks([FIRST]).removesuffix(END))
            await self._told.acquire()
            writer.write(chunks([b"data: " + answer.body + b"\n\n"]))


class Caller:
    """Sends one call after the other over one connection. A shared session's JSON-RPC ids are translated."""

    def __init__(self, envoy, key, shared=False):
        client = SilentClient(envoy.port, [("x-api-key", key)])
        session = client.initialize().session
        if shared:
            assert client.list_tools().result["session"] == session
        headers = [("host", client.authority), *client.headers, ("mcp-session-id", session), ("accept", BOTH)]
        self._request = encode([*headers, ("content-type", "application/json")], compact(call(5, "count")))
        self._socket = socket.create_connection(("127.0.0.1", envoy.port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self._socket.close()

    def time_to_first_event(self, server):
        begun = time.perf_counter()
        self._socket.sendall(self._request)
        answer = self._read_until(FIRST, b"")
        took = time.perf_counter() - begun
        assert b'"result"' not in answer
        server.go_on()
        answer = self._read_until(END, answer)
        assert b'"result"' in answer and b'"id":5' in answer.replace(b" ", b""), answer
        return took

    def _read_until(self, end, answer):
        while end not in answer:
            piece = self._socket.recv(65536)
            assert piece, answer
            answer += piece
        return answer


def in_turn(callers, server):
    """The times of each, in rounds in which all take their turns in any order."""
    times = {name: [] for name in callers}
    order = list(callers)
    dice = random.Random(1)
    for _ in range(WARM_UP + ROUNDS):
        dice.shuffle(order)
        for name in order:
            times[name].append(callers[name].time_to_first_event(server))
    return {name: all_of_them[WARM_UP:] for name, all_of_them in times.items()}


def table(times, baseline):
    """Medians in microseconds, and the quartiles of the differences to the baseline in the same round."""
    yield f"time to the first event, {ROUNDS} rounds       median   difference: median   half of them"
    for name, all_of_them in times.items():
        differences = [1e6 * (one - other) for one, other in zip(all_of_them, times[baseline])]
        low, middle, high = statistics.quantiles(differences, n=4)
        median = f"  {name:42}{1e6 * statistics.median(all_of_them):6.0f} µs"
        yield median if name == baseline else f"{median}{middle:+16.0f} µs   {low:+6.0f} to {high:+.0f} µs"


@pytest.mark.long
def test_the_first_event_arrives_before_the_second_is_made(capsys):
    with TwoEventServer() as server, contextlib.ExitStack() as stack:

        def envoy(held):
            config = EnvoyConfig(server.port, {"hold_request_headers": held})
            return stack.enter_context(RealEnvoy(config))

        without = stack.enter_context(RealEnvoy(EnvoyConfig(server.port).without_filter()))
        held, not_held = envoy(True), envoy(False)

        def caller(envoy, key, shared=False):
            return stack.enter_context(contextlib.closing(Caller(envoy, key, shared)))

        callers = {
            "no filter": caller(without, "a"),
            "no filter, another connection": caller(without, "b"),
            "a session of its own, headers held": caller(held, "a"),
            "a session of its own, headers not held": caller(not_held, "a"),
            "a shared session, headers held": caller(held, "b", shared=True),
            "a shared session, headers not held": caller(not_held, "b", shared=True),
        }
        times = in_turn(callers, server)
    with capsys.disabled():
        print("", *table(times, "no filter"), sep="\n")
