"""Event streams of a shared session flow event by event, with the client's own ids, and else just as they were sent."""

import asyncio

import mcp_servers
import pytest
from parrot import Parrot, in_odd_events
from real_envoy import EnvoyConfig, RealEnvoy
from session_mates import call, compact, keys, mates

STEPS = 1000


@pytest.fixture(scope="module", params=[True, False], ids=["headers-held", "headers-not-held"])
def settings(request):
    return {"hold_request_headers": request.param}


@pytest.fixture(scope="module", params=["python-sse", "typescript-sse"])
def server(request):
    with mcp_servers.start(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(server, settings):
    with RealEnvoy(EnvoyConfig(server.port, settings)) as running:
        yield running


@pytest.fixture(scope="module")
def parrot():
    with Parrot() as running:
        yield running


@pytest.fixture(scope="module")
def before_parrot(parrot, settings):
    with RealEnvoy(EnvoyConfig(parrot.port, settings)) as running:
        yield running


class Progress:
    """A call whose steps the server takes one at a time, when it is told to."""

    def __init__(self, server, mate, steps):
        self.server, self.mate, self.steps = server, mate, steps
        self.name = next(keys)

    async def begin(self, number, progress_token):
        await self.mate.send(compact(call(number, "progress", progress_token, name=self.name, steps=self.steps)))
        self.events = self.mate.events()

    async def take(self, step, progress_token):
        self.server.process.say(self.name)
        event = await anext(self.events)
        expected = {"progressToken": progress_token, "progress": step, "total": self.steps, "message": self.name}
        assert event["method"] == "notifications/progress" and event["params"] == expected, event

    async def end(self, number):
        [last] = [event async for event in self.events]
        assert last["id"] == number and last["result"]["content"][0]["text"] == f"Done: {self.name}", last


def test_1000_progress_notifications_arrive_as_they_are_sent(server, envoy):
    """The server sends each only when the one before has reached the client."""

    async def watch():
        async with mates(envoy.port, next(keys), 1) as [client]:
            progress = Progress(server, client, STEPS)
            await progress.begin(5, "token")
            for step in range(1, STEPS + 1):
                await progress.take(step, "token")
            await progress.end(5)

    asyncio.run(watch())


def test_clients_with_one_id_and_one_progress_token_see_their_own_progress(server, envoy):
    async def watch():
        async with mates(envoy.port, next(keys), 3) as clients:
            calls = [Progress(server, client, 20) for client in clients]
            for progress in calls:
                await progress.begin(5, 5)
            for step in range(1, 21):
                for progress in calls:
                    await progress.take(step, 5)
            for progress in calls:
                await progress.end(5)

    asyncio.run(watch())


@pytest.mark.parametrize("id", [b"1", b'"a\\u0041"'], ids=["number", "string"])
def test_a_stream_may_come_byte_by_byte_and_only_its_ids_change(parrot, before_parrot, id):
    async def watch():
        async with mates(before_parrot.port, next(keys), 1) as [client]:
            body = b'{"jsonrpc":"2.0","method":"tools/list","id":' + id + b"}"
            return [await client.post(body, [("x-form", "odd-events")]) for _ in range(2)]

    with parrot.byte_by_byte(before_parrot):
        for answer in asyncio.run(watch()):
            assert answer.body == in_odd_events([id])


def test_a_resumed_stream_brings_the_answer_to_an_earlier_request_under_its_own_id(parrot, before_parrot):
    async def resume():
        async with mates(before_parrot.port, next(keys), 1) as [client]:
            await client.post(b'{"jsonrpc":"2.0","method":"tools/list","id":"the first"}', [("x-form", "events")])
            return await client.post(b"", [("x-form", "odd-events"), ("last-event-id", "4")], method="GET")

    assert asyncio.run(resume()).body == in_odd_events([b'"the first"'])
    assert parrot.last.header("last-event-id") == "4"
