"""During an update workers of two builds run side by side: here builds whose shared data have different forms."""

import copy
import itertools

import pytest
from real_envoy import ROOT, EnvoyConfig, RealEnvoy
from silent_client import SilentClient

pytestmark = pytest.mark.long

OTHER = ROOT / "target/other_codec/wasm32-wasip1/debug/mcp_session_filter.wasm"
KEYS = [f"caller-{number}" for number in range(8)]
MODES = {
    "forward": {},
    "reuse": {"on_reinitialize": "reuse"},
    "opening": {"on_missing_session": "initialize"},
}


class TwoBuilds(EnvoyConfig):
    """A second listener with the other build under the same vm_id: so both have the same shared data and queues."""

    def __init__(self, server_port, settings):
        super().__init__(server_port, {"hold_request_headers": True, **settings})
        second = copy.deepcopy(self.listener)
        second["name"] = "other"
        manager = second["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"][-2]["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"] = str(OTHER)
        self.tree["static_resources"]["listeners"].append(second)


class TwoBuildsEnvoy(RealEnvoy):
    def __init__(self, config):
        super().__init__(config)
        # The other build has as many VMs, but for the one that tries the configuration.
        self.vms = self.stats("^wasm.envoy.wasm.runtime.v8.created$")["wasm.envoy.wasm.runtime.v8.created"]


@pytest.fixture(params=MODES.values(), ids=MODES.keys())
def envoy(fake_server, request):
    with TwoBuildsEnvoy(TwoBuilds(fake_server.port, request.param)) as running:
        yield running


def test_two_builds_with_two_codecs_serve_the_same_callers_side_by_side(envoy, fake_server):
    """Each knows the sessions that it has opened itself; none takes the other's for its own, whoever asks."""
    builds = [envoy.ports["mcp"], envoy.ports["other"]]
    clients = {
        (port, key): SilentClient(port, [("x-api-key", key)], authority="update.test")
        for port, key in itertools.product(builds, KEYS)
    }
    sessions = {name: client.initialize().session for name, client in clients.items()}
    assert len(set(sessions.values())) == len(clients)
    for _ in range(3):
        for name, client in clients.items():
            assert client.list_tools().result["session"] == sessions[name]
    # What one of them forgets or brings back is nothing to the other.
    fake_server.sessions.difference_update(sessions[builds[0], key] for key in KEYS)
    renewed = {key: clients[builds[0], key].list_tools().result["session"] for key in KEYS}
    assert not set(renewed.values()) & set(sessions.values())
    for key in KEYS:
        assert clients[builds[1], key].list_tools().result["session"] == sessions[builds[1], key]
        assert clients[builds[0], key].list_tools().result["session"] == renewed[key]
    assert envoy.counter("recovered") == len(KEYS)
    assert envoy.counter("host_error") == 0 and envoy.counter("contended") == 0
