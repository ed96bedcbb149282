"""LiteLLM's tools load: the real one, through a real Envoy, in front of real servers that hold one session, or many.

LiteLLM opens a session for each thing that it does, and does several side by side: what matters is how a second
initialize is answered while a session lives.
"""

import subprocess
import sys

import demo_litellm
import mcp_servers
import pytest
from litellm_scene import BOTH, CURRENT_LITELLM, JSON, MODES, WITHOUT_FILTER, Answer, Findings, Scene, observe
from processes import ROOT
from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import INITIALIZE, SilentClient

pytestmark = pytest.mark.litellm

FORWARD = {"on_reinitialize": "forward", "hold_request_headers": True}
# As on hosts whose filters can't hold headers: Istio's WasmPlugin, Envoy Gateway.
NOT_HELD = {"on_reinitialize": "reuse", "hold_request_headers": False}
ALL_MODES = {**MODES, "reuse, not held": NOT_HELD}

# It passes on the protocol version that its child agrees to, though its own SDK knows only older ones.
OLD_SDK = "supergateway-3.4.3-sdk-1.18.2"
SUPERGATEWAYS = ["supergateway-3.4.3", OLD_SDK, "supergateway-4.0.0"]


def parametrize_modes(**modes):
    return pytest.mark.parametrize("settings", modes.values(), ids=modes)


@pytest.fixture(scope="module", params=ALL_MODES.values(), ids=ALL_MODES)
def scene(request):
    with Scene(request.param) as running:
        yield running
    assert running.lines_in_server_log("Already connected to a transport") == 0


def assert_tools_load(found, settings):
    assert found.listed > 0
    assert found.previews == 20
    assert found.lists == 15
    assert found.after_abandoned > 0
    if settings["on_reinitialize"] == "reuse":
        assert (found.bare.status, found.bare.tools) == (200, found.listed)
    assert found.already_connected == 0


def assert_lists_have_tools(scene):
    assert scene.litellm.list_tools().tools > 0
    assert scene.previews() == 20
    assert scene.lists() == 15
    scene.abandon_a_session()
    assert scene.litellm.list_tools().tools > 0


def test_without_the_filter_tools_do_not_load():
    found = observe(WITHOUT_FILTER)
    assert found.listed > 0
    assert found.previews < 20
    assert found.lists < 15
    assert found.after_abandoned == 0
    assert found.bare.status == 400
    assert found.already_connected > 0


@parametrize_modes(**ALL_MODES)
def test_tools_load(settings):
    assert_tools_load(observe(settings), settings)


@parametrize_modes(**ALL_MODES)
def test_tools_load_in_a_current_litellm(settings):
    assert_tools_load(observe(settings, litellm=CURRENT_LITELLM), settings)


def test_lists_side_by_side_have_tools_ten_times(scene):
    assert [scene.lists() for _ in range(10)] == [15] * 10


def test_a_tool_is_called_each_time(scene):
    calls = [scene.litellm.call_tool("searxng_web_search", {"query": "envoy"}) for _ in range(5)]
    assert [call.status for call in calls] == [200] * 5
    # There is no search engine: the tool itself says so.
    assert all("SEARXNG_URL" in call.text for call in calls)


@pytest.mark.parametrize("headers", [JSON, BOTH, {**JSON, "accept": "*/*"}], ids=["no accept", "both", "anything"])
@parametrize_modes(reuse=MODES["reuse"], **{"reuse, not held": NOT_HELD})
def test_a_list_without_a_session_id_has_tools(settings, headers):
    with Scene(settings) as scene:
        answer = scene.list_without_session(headers)
        assert (answer.status, answer.tools) == (200, scene.litellm.list_tools().tools)


def test_without_the_filter_a_session_hangs_that_lost_its_server_to_another():
    with Scene(WITHOUT_FILTER, server="mcp-searxng-0.10.0") as scene:
        assert scene.lists(rounds=1) < 3


@parametrize_modes(**ALL_MODES)
def test_no_session_hangs_where_a_second_one_would_take_its_server(settings):
    with Scene(settings, server="mcp-searxng-0.10.0") as scene:
        assert_lists_have_tools(scene)


@parametrize_modes(forward=FORWARD, **ALL_MODES)
def test_a_server_that_holds_many_sessions_goes_on_working(settings):
    with Scene(settings, server="mcp-searxng-1.0.3") as scene:
        assert_lists_have_tools(scene)


@pytest.mark.parametrize("server", SUPERGATEWAYS)
@parametrize_modes(forward=FORWARD, **ALL_MODES)
def test_tools_behind_supergateway_load_and_are_called(server, settings):
    with Scene(settings, server=server) as scene:
        assert_lists_have_tools(scene)
        called = scene.litellm.call_tool("echo", {"message": "hello"})
        assert (called.status, "Echo: hello" in called.text) == (200, True)
        # Who shares a session shares what the filter found out when it opened that.
        is_found_out_late = server == OLD_SDK and settings["on_reinitialize"] != "reuse"
        assert (scene.envoy.counter("version_repaired") > 0) == is_found_out_late


def test_a_gateway_refuses_the_version_that_it_agreed_to():
    version = INITIALIZE["protocolVersion"]
    with mcp_servers.start(OLD_SDK) as server:
        opened = SilentClient(server.port).initialize()
        assert opened.result["protocolVersion"] == version
        session = [("mcp-session-id", opened.session)]
        refused = SilentClient(server.port, session, version=version).list_tools()
        assert (refused.status, b"Unsupported protocol version" in refused.body) == (400, True)
        assert SilentClient(server.port, session).list_tools().result["tools"]


@parametrize_modes(unrepaired={**FORWARD, "repair_protocol_version": False}, **{"without the filter": WITHOUT_FILTER})
def test_tools_do_not_load_where_a_refused_version_is_not_repaired(settings):
    with Scene(settings, server=OLD_SDK) as scene:
        assert scene.litellm.list_tools().tools == 0
        assert scene.previews(rounds=1) == 0
        assert scene.litellm.call_tool("echo", {"message": "hello"}).status == 404


def names_of_tools(port, version=None):
    """What a client in a session is shown; with a version it names that."""
    client = SilentClient(port, version=version)
    client.headers.append(("mcp-session-id", client.initialize().session))
    assert client.initialized().status == 202
    return {tool["name"] for tool in client.list_tools().result["tools"]}


@pytest.mark.parametrize("server", SUPERGATEWAYS)
@parametrize_modes(reuse=MODES["reuse"], **{"reuse, not held": NOT_HELD})
def test_a_shared_session_has_the_tools_of_one_alone(server, settings):
    with mcp_servers.start(server) as running, RealEnvoy(EnvoyConfig(running.port, settings)) as envoy:
        assert names_of_tools(envoy.port, INITIALIZE["protocolVersion"]) == names_of_tools(running.port)


# It takes 20 of them in a minute, and LiteLLM opens a session for each thing that it does.
@parametrize_modes(**{"without the filter": WITHOUT_FILTER, "reuse": MODES["reuse"], "reuse, not held": NOT_HELD})
def test_a_server_that_limits_new_sessions_is_asked_for_one(settings):
    with Scene(settings, server="mcp-searxng-2.4.0") as scene:
        lists = scene.lists(rounds=10)
    assert lists < 20 if settings is WITHOUT_FILTER else lists == 30


GOOD = Findings(2, 20, 15, 2, Answer(200, '{"result": {"tools": [{}, {}]}}'), 0)
BAD = Findings(2, 19, 14, 0, Answer(400, "{}"), 3)


def test_the_demo_fails_if_the_filter_does_not_do_its_work():
    _, failures = demo_litellm.table({"no filter": BAD, "reuse": GOOD, "queue": GOOD})
    assert failures == []
    _, failures = demo_litellm.table({"no filter": BAD, "reuse": BAD, "queue": GOOD})
    assert len(failures) == 5
    _, failures = demo_litellm.table({"no filter": BAD, "reuse": GOOD, "queue": BAD})
    assert len(failures) == 4


def test_the_demo_shows_tools():
    command = [sys.executable, ROOT / "envoy/demo_litellm.py"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Repaired" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
