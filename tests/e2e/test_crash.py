"""The filter crashes in a worker: what that costs, what it does not, and where it shows."""

import json
import re

import pytest
from monitoring import alert_rules
from processes import ROOT
from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import INITIALIZE, SilentClient, request

# `make chaos` builds it as well.
TRAPPING = ROOT / "target/chaos/mcp_session_filter.wasm"
TRAP = ("x-chaos-trap", "request")

pytestmark = pytest.mark.long


class CrashedEnvoy(RealEnvoy):
    """Its filter crashes because it was told to."""

    def assert_filter_lives(self):
        with pytest.raises(AssertionError, match="vm_reload"):
            super().assert_filter_lives()


@pytest.fixture(params=[{"hold_request_headers": True}])
def envoy(fake_server, request):
    config = EnvoyConfig(fake_server.port, request.param)
    config.plugin["vm_config"]["code"]["local"]["filename"] = str(TRAPPING)
    # Envoy loads a filter again only so long after it last did: a second, if nothing else is said.
    config.plugin["reload_config"] = {"backoff": {"base_interval": "0.01s"}}
    # One, so that the worker that crashed is the one that is asked.
    with CrashedEnvoy(config, workers=1) as running:
        yield running


def crash(envoy):
    answer = SilentClient(envoy.port, [("x-api-key", "crash"), TRAP]).list_tools()
    assert (answer.status, answer.body) == (503, b"")


def test_a_crash_costs_its_own_request_and_no_session(envoy):
    clients = [SilentClient(envoy.port, [("x-api-key", f"crash-{number}")]) for number in range(5)]
    sessions = [client.initialize().session for client in clients]
    crash(envoy)
    assert [client.list_tools().result["session"] for client in clients] == sessions


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
