"""In a shared session a `notifications/cancelled` ends the request that it means, and never another client's."""

import asyncio

import mcp_servers
import pytest
from real_envoy import EnvoyConfig, RealEnvoy
from recorder import Recorder
from session_mates import Mate, call, compact, keys, mates, messages

CANCELLED = b"notifications/cancelled"


@pytest.fixture(scope="module", params=mcp_servers.ECHO_KINDS)
def server(request):
    with mcp_servers.start(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def recorder(server):
    with Recorder(server.port) as running:
        yield running


@pytest.fixture(scope="module", params=[True, False], ids=["headers-held", "headers-not-held"])
def envoy(recorder, request):
    with RealEnvoy(EnvoyConfig(recorder.port, {"hold_request_headers": request.param})) as running:
        yield running


class Waiting:
    """A call that waits in the server until it may go on or is cancelled."""

    def __init__(self, server):
        self.server = server
        self.name = next(keys)

    async def begin(self, mate, number):
        self.mate, self.number = mate, number
        await mate.send(compact(call(number, "wait", name=self.name)))
        await self.prints("waiting")

    async def prints(self, word):
        await asyncio.to_thread(self.server.process.out.wait_for, f"^{word} {self.name}$", 10)

    async def may_go_on(self):
        """Its own answer comes: it was not cancelled."""
        self.server.process.say(self.name)
        answer = await self.mate.receive()
        [text] = messages(answer)
        assert f"Done: {self.name}".encode() in text
        assert f"cancelled {self.name}" not in self.server.process.out.lines
        return answer


async def cancel(port, key, number):
    """From a connection of its own, which may belong to another worker than the request's."""
    params = {"requestId": number, "reason": "a test"}
    async with Mate(port, key) as mate:
        answer = await mate.post(compact({"method": CANCELLED.decode(), "params": params, "jsonrpc": "2.0"}))
        assert answer.first_line.split(" ")[1] == "202"


async def echo_is_answered(mate):
    """What the session was sent before has been dealt with when this is."""
    await mate.post(compact(call("after", "echo", message="after")))


async def is_over(envoy, answer):
    """Waits until Envoy has logged the request: by then it is in flight no more for the filter either."""
    await asyncio.to_thread(envoy.outcome, answer)


def cancels_upstream(recorder):
    return sum(bytes(connection.requests).count(CANCELLED) for connection in recorder.connections)


@pytest.mark.parametrize("number", [3, "3"], ids=["number", "string"])
def test_the_only_request_in_flight_with_that_id_is_cancelled(server, envoy, number):
    async def once():
        key = next(keys)
        async with mates(envoy.port, key, 3) as (one, other, third):
            meant, unlike, beside = Waiting(server), Waiting(server), Waiting(server)
            await meant.begin(one, number)
            await unlike.begin(other, 3 if number == "3" else "3")
            await beside.begin(third, 4)
            await cancel(envoy.port, key, number)
            await meant.prints("cancelled")
            await unlike.may_go_on()
            await beside.may_go_on()

    # Over new connections each time, so that both workers have either part.
    for _ in range(4):
        asyncio.run(once())


def test_an_id_that_two_clients_have_in_flight_cancels_neither(server, envoy, recorder):
    async def once():
        key = next(keys)
        async with mates(envoy.port, key, 3) as (one, other, third):
            calls = [Waiting(server), Waiting(server)]
            await calls[0].begin(one, 3)
            await calls[1].begin(other, 3)
            await cancel(envoy.port, key, 3)
            await echo_is_answered(third)
            for waiting in calls:
                await waiting.may_go_on()

    before = cancels_upstream(recorder)
    for _ in range(4):
        asyncio.run(once())
    assert cancels_upstream(recorder) == before


def test_an_id_is_clear_again_when_one_of_two_requests_has_been_answered(server, envoy):
    async def once():
        key = next(keys)
        async with mates(envoy.port, key, 2) as (one, other):
            first, second = Waiting(server), Waiting(server)
            await first.begin(one, 3)
            await second.begin(other, 3)
            await is_over(envoy, await first.may_go_on())
            await cancel(envoy.port, key, 3)
            await second.prints("cancelled")

    for _ in range(4):
        asyncio.run(once())


def test_an_id_that_nobody_has_in_flight_reaches_no_server(envoy, recorder):
    async def once():
        key = next(keys)
        async with mates(envoy.port, key, 1) as [client]:
            await is_over(envoy, await client.post(compact(call(3, "echo", message="done before"))))
            for number in (3, "3", 4):
                await cancel(envoy.port, key, number)
            await echo_is_answered(client)

    before = cancels_upstream(recorder)
    asyncio.run(once())
    assert cancels_upstream(recorder) == before


def test_another_callers_request_with_that_id_is_not_cancelled(server, envoy):
    async def once():
        mine, theirs = next(keys), next(keys)
        async with mates(envoy.port, mine, 2) as (me, too), mates(envoy.port, theirs, 1) as [them]:
            meant, foreign = Waiting(server), Waiting(server)
            await foreign.begin(them, 3)
            await meant.begin(me, 3)
            await cancel(envoy.port, mine, 3)
            await meant.prints("cancelled")
            await cancel(envoy.port, mine, 3)
            await echo_is_answered(too)
            await foreign.may_go_on()

    asyncio.run(once())
