"""The manifests under envoy/envoy-gateway in a real Envoy: what Envoy Gateway makes of them, with real servers."""

import contextlib
import json

import custom_resources
import mcp_servers
import pytest
from envoy_gateway import GatewayConfig
from issuer import Issuer
from real_envoy import RealEnvoy
from scripted_server import FakeMcpServer
from silent_client import BOTH, SilentClient
from validation import validate

AROUND = custom_resources.load("envoy-gateway/gateway.yaml")
PLAIN, HELD = "envoy-gateway/extension-policy.yaml", "envoy-gateway/held-headers.yaml"
NAMES = [PLAIN, HELD]
ISSUER = "https://issuer.example.com"


def without(kind, loaded):
    return [manifest for manifest in loaded if manifest["kind"] != kind]


@pytest.mark.parametrize("name", NAMES)
def test_envoy_takes_what_comes_of_a_manifest(name, tmp_path):
    verdict = validate(GatewayConfig([*AROUND, *custom_resources.load(name)], [1], Issuer(ISSUER).jwks()).write(tmp_path))
    assert verdict.returncode == 0, verdict.stderr


@pytest.mark.parametrize("name", NAMES)
def test_envoy_refuses_a_wrong_plugin_config_and_names_the_key(name, tmp_path):
    loaded = custom_resources.load(name)
    loaded[0]["spec"]["wasm"][0]["config"]["on_reinitialise"] = "reuse"
    verdict = validate(GatewayConfig([*AROUND, *loaded], [1], Issuer(ISSUER).jwks()).write(tmp_path))
    assert verdict.returncode != 0
    spoken = [line for line in verdict.stderr.splitlines() if "wasm log" in line]
    assert any("on_reinitialise" in line for line in spoken), verdict.stderr


def test_only_the_patch_gives_what_the_policy_has_no_field_for():
    plain, held = (GatewayConfig([*AROUND, *custom_resources.load(name)], [1], "{}").wasm for name in NAMES)
    assert "allow_on_headers_stop_iteration" not in plain and "failure_policy" not in plain
    assert held["allow_on_headers_stop_iteration"] is True and held["failure_policy"] == "FAIL_RELOAD"
    assert "hold_request_headers" not in json.loads(plain["configuration"]["value"])
    assert json.loads(held["configuration"]["value"])["hold_request_headers"] is True


def test_a_patch_for_a_filter_of_another_name_is_an_error():
    loaded = custom_resources.load(HELD)
    loaded[0]["metadata"]["name"] = "another"
    with pytest.raises(AssertionError, match="leads nowhere"):
        GatewayConfig([*AROUND, *loaded], [1], "{}")


@pytest.fixture(scope="module")
def everything():
    with mcp_servers.start("everything") as running:
        yield running


@pytest.fixture(scope="module")
def issuer():
    return Issuer(ISSUER)


@pytest.fixture(scope="module", params=NAMES)
def gateway(request, everything, issuer):
    """The gateway of a manifest; the filter holds headers in one of them."""
    config = GatewayConfig([*AROUND, *custom_resources.load(request.param)], [everything.port], issuer.jwks())
    with RealEnvoy(config) as running:
        running.holds_headers = request.param == HELD
        yield running


def client_of(envoy, headers=()):
    return SilentClient(envoy.port, headers, authority="mcp.example.com")


def test_a_gateway_repairs_the_sessions_of_each_verified_subject(gateway, issuer):
    alice, alice_later, bob = (client_of(gateway, issuer.token(who)) for who in ("alice", "alice", "bob"))
    opened = alice.initialize()
    assert gateway.outcome(opened) == "learned"
    assert alice.initialized().status == 202
    tools = alice_later.list_tools()
    assert "echo" in [tool["name"] for tool in tools.result["tools"]]
    assert gateway.outcome(tools) == "repaired"
    assert alice.call_echo("hello").result["content"][0]["text"] == "Echo: hello"
    refused = bob.list_tools()
    assert (refused.status, gateway.outcome(refused)) == (400, "passed_no_session")

    # A server that answers 400 to an initialize with a session's id sees it twice, where headers are not held.
    before = gateway.counter("reinitialize_repaired")
    assert alice.initialize().session not in (None, opened.session)
    assert gateway.counter("reinitialize_repaired") - before == (0 if gateway.holds_headers else 1)
    assert gateway.counter("hold_unsupported") == 0


def test_a_gateway_lets_nobody_in_without_a_token_or_with_a_forged_one(gateway, issuer):
    client_of(gateway, issuer.token("carol")).initialize()
    before = gateway.stats("^wasmcustom")
    for headers in ([], Issuer(ISSUER).token("carol"), [("x-jwt-payload", "carol")]):
        client = client_of(gateway, headers)
        for answer in (client.initialize(), client.list_tools(), client.delete()):
            assert (answer.status, gateway.outcome(answer)) == (401, None)
    assert gateway.stats("^wasmcustom") == before


def late_method(size):
    """A call whose method comes behind that many bytes."""
    message = {"jsonrpc": "2.0", "id": 1, "params": {"name": "echo", "arguments": {"message": "a" * size}}}
    return json.dumps({**message, "method": "tools/call"}).encode()


def post(client, body):
    return client.request("POST", headers=[("content-type", "application/json"), ("accept", BOTH)], body=body)


def test_a_body_of_nearly_64_kib_may_wait_for_its_method(gateway, issuer):
    client = client_of(gateway, issuer.token("dora"))
    client.initialize()
    client.initialized()
    assert post(client, late_method(60_000)).status == 200


def test_with_envoy_gateways_own_buffer_limit_a_body_that_waits_is_answered_413(everything, issuer):
    loaded = without("ClientTrafficPolicy", custom_resources.load(HELD))
    with RealEnvoy(GatewayConfig([*AROUND, *loaded], [everything.port], issuer.jwks())) as envoy:
        client = client_of(envoy, issuer.token("alice"))
        client.initialize()
        client.initialized()
        assert post(client, late_method(20_000)).status == 200
        assert post(client, late_method(60_000)).status == 413


def test_without_authentication_requests_are_left_alone(everything):
    around = without("SecurityPolicy", AROUND)
    with RealEnvoy(GatewayConfig([*around, *custom_resources.load(PLAIN)], [everything.port])) as envoy:
        for headers in ([], Issuer(ISSUER).token("alice")):
            client = client_of(envoy, headers)
            for answer in (client.initialize(), client.list_tools()):
                assert envoy.outcome(answer) == "passed_no_caller"


class WithAuthorization(GatewayConfig):
    """A filter as a SecurityPolicy's authorization makes one, that refuses tools/list by its header."""

    def other_filters(self):
        refused = {"header": {"name": "x-refuse", "present_match": True}}
        policy = {"permissions": [refused], "principals": [{"any": True}]}
        message = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
        rules = {"action": "DENY", "policies": {"refused": policy}}
        return [{"name": "envoy.filters.http.rbac", "typed_config": {"@type": message, "rules": rules}}]


@pytest.mark.parametrize(
    ("around", "seen"),
    [(AROUND, False), (without("EnvoyProxy", AROUND), True)],
    ids=["as-shipped", "in-envoy-gateways-order"],
)
def test_the_filter_sees_what_authorization_refuses_only_in_envoy_gateways_own_order(everything, issuer, around, seen):
    with RealEnvoy(WithAuthorization([*around, *custom_resources.load(PLAIN)], [everything.port], issuer.jwks())) as envoy:
        client = client_of(envoy, issuer.token("alice"))
        client.initialize()
        refused = client.list_tools(headers=[("accept", BOTH), ("x-refuse", "1")])
        assert refused.status == 403
        assert (envoy.outcome(refused) is not None) == seen


UPSTREAM_HOST = [*AROUND, *custom_resources.load("envoy-gateway/upstream-host.yaml")]


def test_a_header_chooses_the_host_while_that_is_up(issuer):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(FakeMcpServer()) for _ in range(3)]
        ports = [server.port for server in servers]
        config = GatewayConfig([*UPSTREAM_HOST, *custom_resources.load(PLAIN)], ports, issuer.jwks())
        envoy = stack.enter_context(RealEnvoy(config))
        client = client_of(envoy, issuer.token("alice"))
        for chosen in servers:
            before = [len(server.requests) for server in servers]
            header = ("x-mcp-upstream-host", f"127.0.0.1:{chosen.port}")
            for _ in range(4):
                client.call("ping", headers=[("accept", BOTH), header])
            grown = [len(server.requests) - count for server, count in zip(servers, before, strict=True)]
            assert grown == [4 if server is chosen else 0 for server in servers]
        gone = client.call("ping", headers=[("accept", BOTH), ("x-mcp-upstream-host", "127.0.0.1:1")])
        assert gone.status != 503


@pytest.mark.parametrize("reinitialize", ["forward", "reuse"])
def test_a_session_stays_on_the_host_that_opened_it(issuer, reinitialize):
    policy = custom_resources.only("EnvoyExtensionPolicy", PLAIN)
    policy["spec"]["wasm"][0]["config"] |= {"upstream_host_header": "x-mcp-upstream-host", "on_reinitialize": reinitialize}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(mcp_servers.start("everything")) for _ in range(2)]
        config = GatewayConfig([*UPSTREAM_HOST, policy], [server.port for server in servers], issuer.jwks())
        envoy = stack.enter_context(RealEnvoy(config))
        for number in range(4):
            client = client_of(envoy, issuer.token(f"caller-{number}"))
            assert client.initialize().status == 200
            assert client.initialized().status == 202
            assert [client.list_tools().status for _ in range(4)] == [200] * 4
        # A client can't choose another one.
        for server in servers:
            header = ("x-mcp-upstream-host", f"127.0.0.1:{server.port}")
            assert client.list_tools(headers=[("accept", BOTH), header]).status == 200
        assert envoy.counter("unpinned") == 0
