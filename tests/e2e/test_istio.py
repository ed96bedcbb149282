"""The manifests under envoy/istio in a real Envoy: what istiod makes of them, in front of real servers."""

import http.client
import json

import custom_resources
import mcp_servers
import pytest
from certificates import Authority
from issuer import Issuer
from istio_proxy import IstioConfig, as_traffic_extension, from_higress
from real_envoy import RealEnvoy
from silent_client import SilentClient
from validation import validate

# A WasmPlugin comes to the same as the TrafficExtension beside it: a test says so, and servers see only the latter.
SERVER = ["istio/trafficextension-server.yaml", "istio/wasmplugin-server.yaml", "istio/envoyfilter-server.yaml"]
GATEWAY = ["istio/trafficextension-gateway.yaml", "istio/wasmplugin-gateway.yaml", "istio/envoyfilter-gateway.yaml"]
LITELLM = ["istio/trafficextension-litellm.yaml", "istio/wasmplugin-litellm.yaml"]
CONTEXTS = {
    **dict.fromkeys(SERVER, "SIDECAR_INBOUND"),
    **dict.fromkeys(GATEWAY, "GATEWAY"),
    **dict.fromkeys(LITELLM, "SIDECAR_OUTBOUND"),
}


def holds_headers(name):
    return "envoyfilter" in name


@pytest.mark.parametrize("name", CONTEXTS)
def test_envoy_takes_what_comes_of_a_manifest(name, tmp_path):
    config = IstioConfig(custom_resources.load(name), CONTEXTS[name], server_port=1)
    assert len(config.plugins) == 1
    verdict = validate(config.with_filters_inline().write(tmp_path))
    assert verdict.returncode == 0, verdict.stderr


def add_setting(manifest, name, value):
    """One more of the filter's own settings in a manifest."""
    if manifest["kind"] == "EnvoyFilter":
        resource = manifest["spec"]["configPatches"][1]["patch"]["value"]["typed_config"]["config"]
        settings = json.loads(resource["configuration"]["value"])
        resource["configuration"]["value"] = json.dumps({**settings, name: value})
    else:
        manifest["spec"].get("wasm", manifest["spec"])["pluginConfig"][name] = value


@pytest.mark.parametrize("name", SERVER)
def test_envoy_refuses_a_wrong_plugin_config_and_names_the_key(name, tmp_path):
    (manifest,) = custom_resources.load(name)
    add_setting(manifest, "on_reinitialise", "reuse")
    config = IstioConfig([manifest], CONTEXTS[name], server_port=1)
    verdict = validate(config.with_filters_inline().write(tmp_path))
    assert verdict.returncode != 0
    spoken = [line for line in verdict.stderr.splitlines() if "wasm log" in line]
    assert any("on_reinitialise" in line for line in spoken), verdict.stderr


@pytest.mark.parametrize(("extension", "plugin"), [SERVER[:2], GATEWAY[:2], LITELLM])
def test_a_wasm_plugin_says_the_same_as_the_traffic_extension(extension, plugin):
    extension, plugin = custom_resources.only("TrafficExtension", extension), custom_resources.only("WasmPlugin", plugin)
    assert as_traffic_extension(plugin)["spec"] == extension["spec"]
    assert plugin["metadata"] == extension["metadata"]


def test_only_the_envoy_filter_holds_headers_and_has_a_memory_of_its_own():
    for name, context in CONTEXTS.items():
        (plugin,) = IstioConfig(custom_resources.load(name), context, server_port=1).plugins
        assert plugin["root_id"] == "mcp_session_filter"
        assert plugin["failure_policy"] == "FAIL_RELOAD"
        assert plugin.get("allow_on_headers_stop_iteration", False) == holds_headers(name)
        assert bool(plugin["vm_config"].get("vm_id")) == holds_headers(name)


@pytest.mark.parametrize("name", GATEWAY)
def test_in_a_gateway_the_filter_stands_behind_authentication_and_authorisation(name):
    around = custom_resources.load("istio/around-gateway.yaml")
    config = IstioConfig([*around, *custom_resources.load(name)], "GATEWAY", 1, jwks="{}")
    names = [entry["name"] for entry in config.http_filters]
    (place,) = [index for index, entry in enumerate(config.http_filters) if "config_discovery" in entry]
    assert names.index("envoy.filters.http.jwt_authn") < names.index("envoy.filters.http.rbac") < place
    assert place < names.index("envoy.filters.http.router")


@pytest.mark.parametrize(
    ("name", "context", "port"),
    [
        pytest.param(GATEWAY[0], "SIDECAR_INBOUND", 3001, id="a-gateways-in-a-sidecar"),
        pytest.param(SERVER[0], "GATEWAY", 3001, id="a-servers-in-a-gateway"),
        pytest.param(SERVER[0], "SIDECAR_OUTBOUND", 3001, id="a-servers-for-what-it-sends"),
        pytest.param(SERVER[0], "SIDECAR_INBOUND", 8080, id="a-servers-on-another-port"),
        pytest.param(LITELLM[0], "SIDECAR_INBOUND", 3001, id="litellms-for-what-it-gets"),
        pytest.param(SERVER[2], "SIDECAR_INBOUND", 8080, id="a-servers-envoyfilter-on-another-port"),
        pytest.param(GATEWAY[2], "SIDECAR_INBOUND", 3001, id="a-gateways-envoyfilter-in-a-sidecar"),
    ],
)
def test_a_manifest_puts_no_filter_where_it_does_not_belong(name, context, port):
    config = IstioConfig(custom_resources.load(name), context, server_port=1, port=port)
    assert not [entry for entry in config.http_filters if "config_discovery" in entry]


def a_whole_session_works(envoy, client):
    opened = client.initialize()
    assert opened.status == 200 and opened.session
    assert envoy.outcome(opened) == "learned"
    assert client.initialized().status == 202
    tools = client.list_tools()
    assert "echo" in [tool["name"] for tool in tools.result["tools"]]
    assert envoy.outcome(tools) == "repaired"
    assert client.call_echo("hello").result["content"][0]["text"] == "Echo: hello"
    return opened.session


@pytest.fixture(scope="module", params=["everything", "python-sse"])
def server(request):
    with mcp_servers.start(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def everything():
    with mcp_servers.start("everything") as running:
        yield running


# --- the server's sidecar -------------------------------------------------------------------------------------------


class MeshClient(SilentClient):
    """A client with a mesh certificate, whose connection says where it wanted to go, as iptables does in a pod."""

    def __init__(self, port, destination, tls, **options):
        super().__init__(port, tls=tls, **options)
        self.destination = destination

    def connect(self):
        line = f"PROXY TCP4 127.0.0.1 127.0.0.1 1234 {self.destination}\r\n"
        return _Redirected(self.port, line.encode(), self.tls)


class _Redirected(http.client.HTTPConnection):
    def __init__(self, port, line, tls):
        super().__init__("127.0.0.1", port, timeout=30)
        self._line, self._tls = line, tls

    def connect(self):
        super().connect()
        self.sock.sendall(self._line)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname="127.0.0.1")


class Sidecar:
    """A server's sidecar with strict mutual TLS, and clients in its mesh."""

    def __init__(self, server, names, folder):
        self.server = server
        self.folder = folder
        self.signer = Authority()
        self.config = IstioConfig(
            [one for name in names for one in custom_resources.load(name)], "SIDECAR_INBOUND", server.port
        )
        self.config.filter_chain["transport_socket"] = self.signer.downstream_tls()
        protocol = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
        listener_filter = {"name": "envoy.filters.listener.proxy_protocol", "typed_config": {"@type": protocol}}
        self.config.listener["listener_filters"] = [listener_filter]

    def client(self, envoy, identity, headers=()):
        # Nothing but the identity may tell clients apart.
        folder = self.folder / identity.rpartition("/")[2]
        folder.mkdir(exist_ok=True)
        return MeshClient(envoy.port, self.server.port, self.signer.client(identity, folder), headers=headers)


ALICE, BOB = "spiffe://cluster.local/ns/a/sa/alice", "spiffe://cluster.local/ns/b/sa/bob"


@pytest.mark.parametrize("name", [SERVER[0], SERVER[2]])
def test_a_servers_sidecar_repairs_the_sessions_of_each_client_in_the_mesh(server, name, tmp_path):
    sidecar = Sidecar(server, [name, "istio/around-server.yaml"], tmp_path)
    with RealEnvoy(sidecar.config) as envoy:
        alice, bob = sidecar.client(envoy, ALICE), sidecar.client(envoy, BOB)
        session = a_whole_session_works(envoy, alice)
        # Bob has none, and x-forwarded-for does not give him Alice's.
        for headers in ([], [("x-forwarded-for", "127.0.0.1")]):
            refused = sidecar.client(envoy, BOB, headers).list_tools()
            assert refused.status == 400
            assert envoy.outcome(refused) == "passed_no_session"
        assert a_whole_session_works(envoy, bob) != session
        # A second initialize of a caller with a session costs the server one more where headers are not held.
        assert alice.initialize().session not in (None, session)
        assert alice.list_tools().status == 200
        assert envoy.counter("hold_unsupported") == 0
        assert envoy.counter("reinitialize_repaired") == (0 if holds_headers(name) else 1)


def test_without_the_sidecar_resource_a_servers_sidecar_repairs_but_sends_nothing_of_its_own(everything, tmp_path):
    sidecar = Sidecar(everything, [SERVER[0]], tmp_path)
    assert sidecar.config.made_cluster(1)["type"] == "ORIGINAL_DST"
    with RealEnvoy(sidecar.config) as envoy:
        alice = sidecar.client(envoy, ALICE)
        a_whole_session_works(envoy, alice)
        refused = alice.initialize()
        assert refused.status == 400
        assert envoy.outcome(refused) == "host_error"
        assert alice.list_tools().status == 200


# --- the gateway ----------------------------------------------------------------------------------------------------


ISSUER = "https://issuer.example.com"


@pytest.fixture(scope="module")
def issuer():
    return Issuer(ISSUER)


@pytest.fixture(scope="module", params=[GATEWAY[0], GATEWAY[2]])
def gateway(request, everything, issuer):
    """A gateway with the manifests' issuer, and the keys of the test's."""
    loaded = [*custom_resources.load("istio/around-gateway.yaml"), *custom_resources.load(request.param)]
    with RealEnvoy(IstioConfig(loaded, "GATEWAY", everything.port, issuer.jwks())) as running:
        running.holds_headers = holds_headers(request.param)
        yield running


def client_of(envoy, headers=()):
    return SilentClient(envoy.port, headers, authority="mcp.example.com")


def test_a_gateway_repairs_the_sessions_of_each_verified_subject(gateway, issuer):
    alice, alice_later, bob = (client_of(gateway, issuer.token(who)) for who in ("alice", "alice", "bob"))
    session = a_whole_session_works(gateway, alice)
    again = alice_later.list_tools()
    assert (again.status, gateway.outcome(again)) == (200, "repaired")
    refused = bob.list_tools()
    assert (refused.status, gateway.outcome(refused)) == (400, "passed_no_session")
    assert a_whole_session_works(gateway, bob) != session

    # A server that answers 400 to an initialize with a session's id sees it twice, where headers are not held.
    before = gateway.counter("reinitialize_repaired")
    assert alice_later.initialize().session not in (None, session)
    assert gateway.counter("reinitialize_repaired") - before == (0 if gateway.holds_headers else 1)
    assert gateway.counter("hold_unsupported") == 0


def test_a_gateway_lets_nobody_in_without_a_token_or_with_a_forged_one(gateway, issuer):
    client_of(gateway, issuer.token("carol")).initialize()
    before = gateway.stats("^wasmcustom")
    forged = Issuer(ISSUER).token("carol")
    for host, headers, status in [
        ("mcp.example.com", [], 403),
        ("mcp.example.com:443", [], 403),
        ("MCP.example.com", [("x-jwt-payload", "carol")], 403),
        ("mcp.example.com", forged, 401),
    ]:
        client = SilentClient(gateway.port, headers, authority=host)
        for answer in (client.initialize(), client.list_tools(), client.delete()):
            assert (answer.status, gateway.outcome(answer)) == (status, None)
    assert gateway.stats("^wasmcustom") == before


def test_a_gateway_without_authentication_leaves_requests_alone(everything):
    with RealEnvoy(IstioConfig(custom_resources.load(GATEWAY[0]), "GATEWAY", everything.port)) as envoy:
        # Nobody has checked this token, so it says nothing.
        for headers in ([], Issuer(ISSUER).token("alice")):
            client = SilentClient(envoy.port, headers)
            for answer in (client.initialize(), client.list_tools()):
                assert envoy.outcome(answer) == "passed_no_caller"


@pytest.mark.parametrize("name", GATEWAY[:2])
def test_in_another_phase_the_filter_would_stand_before_authorisation(name):
    (manifest,) = custom_resources.load(name)
    manifest["spec"]["phase"] = "AUTHZ"
    config = IstioConfig([*custom_resources.load("istio/around-gateway.yaml"), manifest], "GATEWAY", 1, jwks="{}")
    names = [entry["name"] for entry in config.http_filters]
    (place,) = [index for index, entry in enumerate(config.http_filters) if "config_discovery" in entry]
    assert place < names.index("envoy.filters.http.rbac")


# --- LiteLLM's sidecar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LITELLM[:1])
def test_litellms_sidecar_shares_one_session_among_its_clients(server, name):
    with RealEnvoy(IstioConfig(custom_resources.load(name), "SIDECAR_OUTBOUND", server.port)) as envoy:
        client = SilentClient(envoy.port)
        session = client.initialize().session
        assert client.initialized().status == 202
        again = client.initialize()
        assert (again.session, envoy.outcome(again)) == (session, "reused")
        assert "echo" in [tool["name"] for tool in client.list_tools().result["tools"]]
        # One credential of LiteLLM's is one caller, too, and another one.
        other = SilentClient(envoy.port, [("authorization", "Bearer a")])
        assert other.initialize().session != session


# --- Higress --------------------------------------------------------------------------------------------------------


def test_higress_puts_the_filter_behind_its_own_plugins_and_it_repairs(everything):
    mine = custom_resources.only("WasmPlugin", "istio/wasmplugin-higress.yaml")
    others = {**mine, "metadata": {"name": "jwt-auth", "namespace": "higress-system"}}
    others["spec"] = {**mine["spec"], "phase": "AUTHN", "priority": 340}
    config = IstioConfig([from_higress(mine)], "GATEWAY", everything.port)
    both = IstioConfig([from_higress(mine), from_higress(others)], "GATEWAY", everything.port)
    assert [("jwt-auth" in entry["name"]) for entry in both.http_filters[:2]] == [True, False]
    with RealEnvoy(config) as envoy:
        a_whole_session_works(envoy, SilentClient(envoy.port, [("authorization", "Bearer a")]))
        assert envoy.outcome(SilentClient(envoy.port).list_tools()) == "passed_no_caller"


def test_the_filter_refuses_higress_match_rules(tmp_path):
    plugin = custom_resources.only("WasmPlugin", "istio/wasmplugin-higress.yaml")
    plugin["spec"]["matchRules"] = [{"ingress": ["mcp"], "config": {}}]
    # As FAIL_OPEN would let it pass, without the filter.
    plugin["spec"]["failStrategy"] = "FAIL_CLOSE"
    verdict = validate(IstioConfig([from_higress(plugin)], "GATEWAY", 1).with_filters_inline().write(tmp_path))
    assert verdict.returncode != 0
    assert "_rules_" in verdict.stderr
