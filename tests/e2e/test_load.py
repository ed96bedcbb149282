"""Many callers at once over many requests: each stays in its own session, and Envoy's memory stays flat."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import SilentClient

THREADS = 8
MIB = 1 << 20


class Caller:
    """Opens a session now and then, and must find itself in its latest one at each request."""

    def __init__(self, port, number):
        self._client = SilentClient(port, [("authorization", f"Bearer {number}")], authority="load.test")
        self._session = None

    def ask(self, turn):
        if turn % 20 == 0:
            self._session = self._client.initialize().session
        assert self._client.list_tools().result["session"] == self._session

    def work(self, turns):
        for turn in turns:
            self.ask(turn)


@pytest.mark.long
def test_callers_under_load_stay_apart(fake_server):
    with RealEnvoy(EnvoyConfig(fake_server.port)) as envoy, ThreadPoolExecutor(THREADS) as pool:
        callers = [Caller(envoy.port, number) for number in range(200)]

        def run(turns):
            for done in [pool.submit(caller.work, turns) for caller in callers]:
                done.result()

        run(range(20))
        before = envoy.memory("VmRSS")
        run(range(20, 120))
        assert envoy.memory("VmRSS") - before < 16 * MIB
        assert envoy.counter("repaired") == 200 * 120
        assert envoy.counter("learned") == 200 * 6
        assert envoy.counter("evicted") == 0
