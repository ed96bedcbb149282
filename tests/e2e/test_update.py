"""The filter is replaced while requests are under way: no session is lost, and every request is answered right."""

import copy
import threading

import pytest
from live_envoy import LiveConfig, LiveEnvoy, rebuilt
from silent_client import SilentClient

SETTINGS = {"hold_request_headers": True, "caller": {"headers": ["x-api-key"]}}
CLIENTS = 6
# Envoy's own default. A worker may be busy for seconds with a new module; with less than that, connections that it has
# just taken would be cut.
DRAIN = 600


class Busy:
    """A client in one session that calls a tool again and again, and keeps what each answer was."""

    def __init__(self, port, key):
        self._client = SilentClient(port, [("x-api-key", key)])
        self.session = self._client.initialize().session
        self.answers = []
        self._leaves = threading.Event()
        self._answered = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self):
        self._thread.start()

    def _work(self):
        while not self._leaves.is_set():
            answer = self._ask()
            with self._answered:
                self.answers.append(answer)
                self._answered.notify_all()

    def _ask(self):
        try:
            answer = self._client.list_tools()
            return answer.result["session"] if answer.status == 200 else answer.status
        except (OSError, AssertionError, ValueError, TypeError) as failure:
            return repr(failure)

    def wait_for_more(self, answers):
        """Until so many more requests were made and answered."""
        goal = len(self.answers) + answers
        with self._answered:
            assert self._answered.wait_for(lambda: len(self.answers) >= goal, 30)

    def stop(self):
        self._leaves.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "a request hangs"


@pytest.fixture
def envoy(fake_server):
    with LiveEnvoy(LiveConfig(fake_server.port, SETTINGS), drain_seconds=DRAIN) as running:
        yield running


def assert_all_stay(envoy, change, vms):
    """Clients keep their sessions before, during and after the change, and each of their requests is answered."""
    clients = [Busy(envoy.port, f"update-{number}") for number in range(CLIENTS)]
    learned = envoy.counter("learned")
    for client in clients:
        client.start()
    for client in clients:
        client.wait_for_more(10)
    listener = copy.deepcopy(envoy.config.listener)
    change(listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][-2]["typed_config"]["config"])
    envoy.vms += vms
    envoy.update([listener])
    for client in clients:
        client.wait_for_more(10)
    for client in clients:
        client.stop()
    for client in clients:
        assert set(client.answers) == {client.session}
    assert len({client.session for client in clients}) == CLIENTS
    assert envoy.counter("learned") == learned


def test_a_new_build_of_the_filter_loses_no_session_under_load(envoy, tmp_path):
    def change(plugin):
        plugin["vm_config"]["code"]["local"]["filename"] = str(rebuilt(tmp_path, "another"))

    assert_all_stay(envoy, change, vms=5)


def test_a_new_configuration_of_the_filter_loses_no_session_under_load(envoy):
    def change(plugin):
        plugin["configuration"]["value"] = plugin["configuration"]["value"].replace("true", "true ", 1)

    assert_all_stay(envoy, change, vms=1)
