"""`on_missing_session: "initialize"`: a caller without a session gets one, with the request that needs it."""

import asyncio
import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import mcp_servers
import pytest
from real_envoy import EnvoyConfig, RealEnvoy
from recorder import Recorder
from session_mates import Mate, told_step_by_step
from silent_client import INITIALIZE, SilentClient

SETTINGS = {"on_missing_session": "initialize"}
HELD = SETTINGS | {"hold_request_headers": True}

keys = (f"missing-{number}" for number in itertools.count())
headers = pytest.mark.parametrize("settings", [HELD, SETTINGS], ids=["headers-held", "headers-not-held"])


@pytest.fixture(scope="module", params=mcp_servers.KINDS)
def server(request):
    with mcp_servers.start(request.param) as running:
        yield running


def ended(port, key):
    """A client that had a session and ended it."""
    client = SilentClient(port, [("x-api-key", key)], version=INITIALIZE["protocolVersion"])
    client.initialize()
    client.initialized()
    assert client.delete().status in (200, 202, 204)
    return client


@headers
def test_a_client_that_ended_its_session_lists_tools_all_the_same(server, settings):
    with RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
        client = ended(envoy.port, next(keys))
        answer = client.list_tools()
        assert (answer.status, envoy.outcome(answer)) == (200, "opened")
        assert answer.result["tools"]
        assert envoy.outcome(client.list_tools()) == "repaired"
        stranger = SilentClient(envoy.port, [("x-api-key", next(keys))], version=INITIALIZE["protocolVersion"])
        assert stranger.list_tools().session != answer.session


@headers
def test_requests_that_come_at_once_open_one_session(server, settings):
    with Recorder(server.port) as recorder, RealEnvoy(EnvoyConfig(recorder.port, settings)) as envoy:

        def opened():
            requests = b"".join(bytes(one.requests) for one in recorder.connections)
            return len(re.findall(rb'"method": ?"initialize"', requests))

        client = ended(envoy.port, next(keys))
        before = opened()
        with ThreadPoolExecutor(8) as pool:
            answers = [one.result() for one in [pool.submit(client.list_tools) for _ in range(16)]]
        assert {answer.status for answer in answers} == {200}
        assert opened() == before + 1


@headers
@pytest.mark.parametrize("kind", ["typescript-sse", "python-sse"])
def test_the_answer_to_a_request_that_had_a_session_opened_is_not_held_back(kind, settings):
    async def opened_and_ended(port, key):
        ended(port, key)
        async with Mate(port, key) as mate:
            await told_step_by_step(mate, server.process, "step")

    with mcp_servers.start(kind) as server, RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
        asyncio.run(opened_and_ended(envoy.port, next(keys)))
        assert envoy.counter("opened") == 1
