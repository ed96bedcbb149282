"""Clients of one caller share a session of a real server, and all count their ids from 0: each gets its own answers."""

import asyncio
import json

import mcp_servers
import pytest
from real_envoy import EnvoyConfig, RealEnvoy
from recorder import Recorder
from session_mates import Mate, call, compact, count, keys, mates, messages

CLIENTS = 64
# Over all clients, for each kind of server and each way into the session.
CALLS, MANY_CALLS = 500, 10_000


@pytest.fixture(scope="module", params=mcp_servers.ECHO_KINDS)
def server(request):
    with mcp_servers.start(request.param) as running:
        yield running


@pytest.fixture(scope="module", params=[True, False], ids=["headers-held", "headers-not-held"])
def held(request):
    return request.param


@pytest.fixture(scope="module", params=[False, True], ids=["one-opens-it", "each-opens-it"])
def reuse(request):
    return request.param


@pytest.fixture(scope="module")
def settings(held, reuse):
    return {"hold_request_headers": held, **({"on_reinitialize": "reuse"} if reuse else {})}


@pytest.fixture(scope="module")
def envoy(server, settings):
    with RealEnvoy(EnvoyConfig(server.port, settings)) as running:
        yield running


async def all_count(port, key, reuse, calls):
    async with mates(port, key, CLIENTS, reuse) as clients:
        each = -(-calls // CLIENTS)
        await asyncio.gather(*(count(client, f"client {number},", each) for number, client in enumerate(clients)))


def test_64_clients_that_count_alike_get_their_own_answers(envoy, reuse):
    asyncio.run(all_count(envoy.port, next(keys), reuse, CALLS))


@pytest.mark.long
def test_64_clients_that_count_alike_get_their_own_answers_10_000_times(envoy, reuse):
    asyncio.run(all_count(envoy.port, next(keys), reuse, MANY_CALLS))


def test_two_callers_that_count_alike_get_their_own_answers_in_their_own_sessions(envoy, reuse):
    async def caller(key):
        async with mates(envoy.port, key, 8, reuse) as clients:
            counting = [count(client, f"{key}, client {number},", 5) for number, client in enumerate(clients)]
            await asyncio.gather(*counting)
            answer = await clients[0].post(compact({"jsonrpc": "2.0", "id": 0, "method": "tools/list"}))
            return answer.header("mcp-session-id")

    async def both():
        return await asyncio.gather(caller(next(keys)), caller(next(keys)))

    one, other = asyncio.run(both())
    assert one and other and one != other


@pytest.mark.parametrize("kind", mcp_servers.ECHO_KINDS)
def test_without_translation_clients_that_count_alike_lose_answers_or_get_those_of_others(kind):
    """So the tests above can fail."""

    async def answered(client, name):
        try:
            await asyncio.wait_for(count(client, name, 1), 0.5)
        except (AssertionError, asyncio.TimeoutError):
            return False
        return True

    async def both(port):
        async with mates(port, next(keys), 2) as clients:
            return await asyncio.gather(*(answered(client, name) for client, name in zip(clients, "ab")))

    with mcp_servers.start(kind) as server:
        settings = {"hold_request_headers": True, "translate_ids": False}
        with RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
            assert asyncio.run(both(envoy.port)) != [True, True]


@pytest.mark.parametrize("kind", ["python-sse", "typescript-json"])
def test_clients_that_initialize_at_once_cause_one_initialize(kind, held):
    settings = {"hold_request_headers": held, "on_reinitialize": "reuse"}

    async def use_and_leave(port):
        async with mates(port, next(keys), CLIENTS, reuse=True) as (first, *others):
            assert (await first.post(b"", method="DELETE")).first_line.split(" ")[1] == "200"
            stream = await first.post(b"", method="GET")
            assert stream.first_line.split(" ")[1] == "405"
            await asyncio.gather(*(count(client, f"client {number}", 2) for number, client in enumerate(others)))

    with mcp_servers.start(kind) as server, Recorder(server.port) as recorder:
        with RealEnvoy(EnvoyConfig(recorder.port, settings)) as envoy:
            asyncio.run(use_and_leave(envoy.port))
            # Where headers are not held those of the others have gone up, and nothing behind them.
            seen = b"".join(bytes(connection.requests) for connection in recorder.connections)
    assert seen.count(b'"initialize"') == 1
    assert seen.count(b'"notifications/initialized"') == 1
    assert seen.count(b'"tools/call"') == (CLIENTS - 1) * 2
    assert seen.count(b"DELETE /") == seen.count(b"GET /") == 0


@pytest.mark.long
def test_clients_that_initialize_at_once_share_one_session_200_times(envoy, reuse):
    async def burst():
        # That all are told the same session is held in there.
        async with mates(envoy.port, next(keys), CLIENTS, reuse) as clients:
            await count(clients[0], "one", 1)

    for _ in range(200):
        asyncio.run(burst())


def test_answers_tell_int_and_string_ids_apart_in_one_session(envoy, reuse):
    async def ask(client, number):
        answer = await client.post(compact(call(number, "overtaken", message=repr(number))))
        [message] = map(json.loads, messages(answer))
        return message["id"], message["result"]["content"][0]["text"]

    async def all_ask(numbers):
        async with mates(envoy.port, next(keys), len(numbers), reuse) as clients:
            return await asyncio.gather(*(ask(client, number) for client, number in zip(clients, numbers)))

    numbers = [1, "1", 1, "1", "01", 1]
    answers = asyncio.run(all_ask(numbers))
    assert repr(answers) == repr([(number, f"Echo: {number!r}") for number in numbers])


def test_a_client_that_names_the_session_and_one_that_does_not_get_their_own_answers(envoy, reuse):
    async def both():
        key = next(keys)
        async with mates(envoy.port, key, 1, reuse) as [silent]:
            listed = await silent.post(compact({"jsonrpc": "2.0", "id": 0, "method": "tools/list"}))
            async with Mate(envoy.port, key, listed.header("mcp-session-id")) as naming:
                silent.session = None
                await asyncio.gather(count(silent, "silent", 5), count(naming, "naming", 5))

    asyncio.run(both())
