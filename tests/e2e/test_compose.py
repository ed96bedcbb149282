"""`docker compose up` as a user types it, in a real Docker engine: a client without session ids, refused and answered."""

import pytest
from composed import INITIALIZE_REQUEST, INITIALIZED, Up, post, row
from silent_client import request

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def demo(docker_engine):
    with Up(docker_engine) as running:
        yield running


def test_without_session_ids_the_server_refuses_and_envoy_answers(demo):
    assert demo.exit_code == 0, demo.said
    assert row(demo.said, "notifications/initialized") == ["✗ 400 Missing session ID", "✓ 202 Accepted"]
    assert row(demo.said, "tools/list") == ["✗ 400 Missing session ID", "✓ 200 echo"]
    assert row(demo.said, "tools/call") == ["✗ 400 Missing session ID", "✓ 200 Echo: hello"]
    assert row(demo.said, "mcp_session.learned") == ["1"]
    assert row(demo.said, "mcp_session.repaired") == ["3"]
    assert max(map(len, demo.said.splitlines())) <= 80


def test_the_client_fails_if_nothing_is_repaired(demo):
    straight = ["http://server:3001", "http://server:3001", "http://envoy:9901"]
    failed = demo.compose("run", "--rm", "--no-deps", "client", "python", "/client.py", *straight)
    assert failed.returncode == 1
    assert "Not repaired" in failed.stderr


def test_a_session_outlives_a_restart_of_the_server(demo):
    assert demo.curl("10000/mcp", *post(INITIALIZE_REQUEST)) == "200"
    assert demo.curl("10000/mcp", *post(INITIALIZED)) == "202"
    recovered = demo.counter("recovered")
    demo.compose("restart", "server")
    demo.compose("up", "--detach", "--no-recreate", "--wait", "server")
    status = demo.curl("10000/mcp", *post(request("tools/list")))
    assert status == "200"
    assert demo.counter("recovered") == recovered + 1


def test_a_header_switches_the_filter_off(demo):
    assert demo.curl("10000/mcp", *post(INITIALIZE_REQUEST)) == "200"
    status = demo.curl("10000/mcp", *post(request("tools/list"), "--header", "x-session-filter: off"))
    assert status == "400"


def test_ports_are_published_on_loopback_only(demo):
    listening = demo.engine.succeed("ss", "--no-header", "--listening", "--tcp", "--numeric").splitlines()
    assert sorted(line.split()[3] for line in listening) == ["127.0.0.1:10000", "127.0.0.1:9901"]


@pytest.mark.parametrize("address", ["envoy:9901/quitquitquit", "envoy:9901/config_dump", "envoy:9902/ready"])
def test_no_container_reaches_what_rules_envoy(demo, address):
    reached = demo.python("server", f"import urllib.request; urllib.request.urlopen('http://{address}', timeout=5)")
    assert "404" in reached.stderr or "Connection refused" in reached.stderr


def test_nothing_runs_as_root_or_changes_its_files(demo):
    for service, user in [("envoy", "101"), ("server", "65534")]:
        status = demo.compose("exec", "--no-TTY", service, "cat", "/proc/1/status").stdout
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert set(fields["Uid"].split()) == {user}
        assert int(fields["CapBnd"], 16) == 0
        assert "Read-only" in demo.compose("exec", "--no-TTY", "--user", "0", service, "touch", "/new").stderr
