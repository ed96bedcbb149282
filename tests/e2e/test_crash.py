"""The filter crashes in a worker: what that costs, what it does not, and where it shows."""

import asyncio
import http.client
import json
import re
import threading
import time

import pytest
from monitoring import alert_rules
from processes import ROOT
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import FakeMcpServer
from silent_client import INITIALIZE, SilentClient, request

# `make chaos` builds it as well.
TRAPPING = ROOT / "target/chaos/mcp_session_filter.wasm"
TRAP = ("x-chaos-trap", "request")
LOADED_WITHIN = 5

pytestmark = pytest.mark.long


class CrashedEnvoy(RealEnvoy):
    """Its filter crashes because it was told to."""

    def assert_filter_lives(self):
        with pytest.raises(AssertionError, match="vm_reload"):
            super().assert_filter_lives()


class PausingServer(FakeMcpServer):
    """Once it is told to, it sends the second half of its next answer later."""

    def __init__(self):
        super().__init__()
        self.pauses = False
        self.goes_on = threading.Event()

    async def write(self, writer, answer):
        encoded = answer.encode()
        if self.pauses:
            self.pauses = False
            half = len(encoded) - len(answer.body) // 2
            writer.write(encoded[:half])
            await writer.drain()
            await asyncio.to_thread(self.goes_on.wait, 30)
            encoded = encoded[half:]
        writer.write(encoded)
        await writer.drain()


@pytest.fixture
def pausing_server():
    with PausingServer() as server:
        yield server


@pytest.fixture(params=[{"hold_request_headers": True}])
def envoy(fake_server, request):
    with trapping_envoy(fake_server, request.param) as running:
        yield running


def trapping_envoy(server, settings):
    config = EnvoyConfig(server.port, settings)
    config.plugin["vm_config"]["code"]["local"]["filename"] = str(TRAPPING)
    # Envoy loads a filter again only so long after it last did: a second, if nothing else is said.
    config.plugin["reload_config"] = {"backoff": {"base_interval": "0.01s"}}
    # One, so that the worker that crashed is the one that is asked.
    return CrashedEnvoy(config, workers=1)


def crash(envoy):
    """The filter crashes, and is there again: until then Envoy answers 503 to whatever comes."""
    answer = SilentClient(envoy.port, [("x-api-key", "crash"), TRAP]).list_tools()
    assert (answer.status, answer.body) == (503, b"")
    probe = SilentClient(envoy.port, [("x-api-key", "probe")])
    deadline = time.monotonic() + LOADED_WITHIN
    while probe.request("GET").status == 503:
        assert time.monotonic() < deadline, "the filter is not loaded again"


def test_a_crash_costs_its_own_request_and_no_session(envoy):
    clients = [SilentClient(envoy.port, [("x-api-key", f"crash-{number}")]) for number in range(5)]
    sessions = [client.initialize().session for client in clients]
    crash(envoy)
    assert [client.list_tools().result["session"] for client in clients] == sessions


def test_an_answer_that_is_under_way_in_a_crash_is_cut_and_never_taken_for_whole(pausing_server):
    with trapping_envoy(pausing_server, {"hold_request_headers": True}) as envoy:
        client = SilentClient(envoy.port, [("x-api-key", "slow")])
        client.initialize()
        pausing_server.pauses = True
        body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}).encode()
        connection = client.send("POST", "/mcp", [("content-type", "application/json")], body)
        answer = connection.getresponse()
        assert answer.status == 200
        crash(envoy)
        pausing_server.goes_on.set()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()


def test_a_crash_is_counted_where_the_alert_looks(envoy):
    [rule] = [rule for rule in alert_rules() if rule["alert"] == "McpSessionFilterCrashed"]
    metric = re.search(r"envoy_wasm_mcp_session_filter_(\w+)", rule["expr"])[1]
    name = f"wasm.mcp_session_filter.{metric}"
    assert envoy.stats(f"^{re.escape(name)}$") == {name: 0}
    crash(envoy)
    SilentClient(envoy.port).initialize()
    envoy.wait_for_stat(name, 1)


@pytest.mark.parametrize("envoy", [{"hold_request_headers": True, "on_reinitialize": "queue"}], indirect=True)
def test_who_waited_in_a_crash_holds_up_nobody_and_is_gone_once_its_client_is(envoy):
    holder, waiting, next_one = (SilentClient(envoy.port, [("x-api-key", name)]) for name in ("one", "two", "three"))
    holder.initialize()
    forgotten = waiting.send("POST", "/mcp", body=json.dumps(request("initialize", INITIALIZE)).encode())
    envoy.wait_for_stat("wasmcustom.mcp_session.queued", 1)
    crash(envoy)
    assert holder.delete().status == 200
    assert next_one.initialize().status == 200
    active = "http.mcp.downstream_rq_active"
    assert envoy.stats(f"^{re.escape(active)}$") == {active: 1}
    forgotten.close()
    envoy.wait_for_stat(active, 0)
