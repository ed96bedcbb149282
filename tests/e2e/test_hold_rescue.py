"""`hold_request_headers` without Envoy's own setting for it: no request hangs, and the log says what is missing."""

from concurrent.futures import ThreadPoolExecutor

from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import SilentClient

WORKERS = 2


def test_requests_are_let_go_and_the_missing_setting_is_named(fake_server):
    config = EnvoyConfig(fake_server.port, {"hold_request_headers": True})
    config.plugin["allow_on_headers_stop_iteration"] = False
    with RealEnvoy(config) as envoy, ThreadPoolExecutor(8) as pool:
        client = SilentClient(envoy.port)
        session = client.initialize().session

        def ask(_):
            return client.list_tools()

        def complaints():
            return [line for line in envoy.process.err.lines if "allow_on_headers_stop_iteration" in line]

        # Connections fall to workers by chance: ask until both have found out.
        for _ in range(20):
            for answer in pool.map(ask, range(8)):
                # Refused as long as its worker lets headers wait in vain, repaired from then on.
                assert answer.status in (200, 400)
            if len(complaints()) == WORKERS:
                break
        assert len(complaints()) == WORKERS
        assert all("[error]" in line for line in complaints())
        held = envoy.counter("hold_unsupported")
        assert held >= WORKERS

        # From now on it goes on as if the setting were false.
        for answer in pool.map(ask, range(16)):
            assert answer.result["session"] == session
            assert envoy.outcome(answer) == "repaired"
        assert envoy.counter("hold_unsupported") == held


def test_the_setting_once_seen_to_work_is_never_doubted(envoy):
    client = SilentClient(envoy.port, [("x-api-key", "a")])
    session = client.initialize().session
    for _ in range(16):
        assert client.list_tools().result["session"] == session
    assert envoy.counter("hold_unsupported") == 0
    assert not [line for line in envoy.process.err.lines if "allow_on_headers_stop_iteration" in line]
