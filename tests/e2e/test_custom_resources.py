"""The manifests for Istio and Envoy Gateway, against the CRDs that a cluster would check them with."""

import copy

import crds
import custom_resources
import pytest

AT_HAND = crds.load()


def crd_of(manifest):
    """The CRD of the manifest's kind; skips without it."""
    group_and_kind = crds.group_and_kind(manifest)
    assert group_and_kind in crds.UPSTREAM, f"nobody knows {group_and_kind}"
    if group_and_kind not in AT_HAND:
        pytest.skip(crds.missing(*group_and_kind))
    return AT_HAND[group_and_kind]


SHIPPED = [
    pytest.param(manifest, id=f"{name}-{manifest['kind']}")
    for name in custom_resources.FILES
    for manifest in custom_resources.load(name)
]


@pytest.mark.parametrize("manifest", SHIPPED)
def test_a_shipped_manifest_is_taken(manifest):
    assert crds.complaints(crd_of(manifest), copy.deepcopy(manifest)) == []


def test_each_file_has_something_in_it():
    assert len(custom_resources.FILES) > 10
    assert all(custom_resources.load(name) for name in custom_resources.FILES)


GONE = object()
FILES = {
    "TrafficExtension": "istio/trafficextension-server.yaml",
    "WasmPlugin": "istio/wasmplugin-server.yaml",
    "Higress": "istio/wasmplugin-higress.yaml",
    "EnvoyFilter": "istio/envoyfilter-server.yaml",
    "EnvoyExtensionPolicy": "envoy-gateway/extension-policy.yaml",
    "EnvoyPatchPolicy": "envoy-gateway/held-headers.yaml",
    "BackendTrafficPolicy": "envoy-gateway/upstream-host.yaml",
    "ClientTrafficPolicy": "envoy-gateway/held-headers.yaml",
    "EnvoyProxy": "envoy-gateway/gateway.yaml",
    "HTTPRoute": "envoy-gateway/gateway.yaml",
    "SecurityPolicy": "envoy-gateway/gateway.yaml",
    "VirtualService": "istio/around-gateway.yaml",
    "RequestAuthentication": "istio/around-gateway.yaml",
    "AuthorizationPolicy": "istio/around-gateway.yaml",
    "Sidecar": "istio/around-server.yaml",
    "PeerAuthentication": "istio/around-server.yaml",
}
TARGET = {"kind": "Gateway", "name": "mcp"}
HOST_AND_VALUE = {"name": "A", "valueFrom": "HOST", "value": "b"}
NOT_A_DIGEST = "sha256:" + 64 * "0"
ANOTHER_CODE = {"type": "Image", "http": {"url": "http://a"}, "image": {"url": "a"}}
SECRET = {"type": "Image", "image": {"url": "a", "pullSecretRef": {"kind": "ConfigMap", "name": "a"}}}

# Kind, place, what is put there, and a part of the complaint, its place first.
WRONG = [
    # The schema.
    ("TrafficExtension", "spec.wasm.plugin_name", "a", "spec.wasm: Additional properties are not allowed"),
    ("TrafficExtension", "spec.wasm.allowOnHeadersStopIteration", True, "spec.wasm: Additional properties"),
    ("TrafficExtension", "spec.phase", "AFTER_AUTHZ", "spec.phase: 'AFTER_AUTHZ' is not one of"),
    ("TrafficExtension", "spec.wasm.failStrategy", "FAIL_CLOSED", "failStrategy: 'FAIL_CLOSED' is not one of"),
    ("TrafficExtension", "spec.wasm.url", GONE, "spec.wasm: 'url' is a required property"),
    ("TrafficExtension", "spec.wasm.sha256", NOT_A_DIGEST, "spec.wasm.sha256: 'sha256:"),
    ("TrafficExtension", "spec.wasm.pluginConfig", "{}", "spec.wasm.pluginConfig: '{}' is not of type 'object'"),
    ("TrafficExtension", "spec.match.0.mode", "GATEWAY", "spec.match[0].mode: 'GATEWAY' is not one of"),
    ("TrafficExtension", "spec.match.0.ports.1", {"number": 3001}, "spec.match[0].ports[1]: Duplicate value"),
    ("TrafficExtension", "spec.match.0.ports.0.number", 65536, "spec.match[0].ports[0].number: 65536 is greater"),
    ("TrafficExtension", "spec.priority", 2**31, "spec.priority: 2147483648 is not a 'int32'"),
    ("TrafficExtension", "spec.lua", {"inlineCode": "--"}, "spec: {"),
    ("TrafficExtension", "spec", GONE, "manifest: 'spec' is a required property"),
    ("TrafficExtension", "apiVersion", "extensions.istio.io/v1", "apiVersion: v1 is not served"),
    ("TrafficExtension", "metadata.name", "MCP", "metadata.name: 'MCP' does not match"),
    ("WasmPlugin", "spec.wasm", {"url": "oci://a"}, "spec: Additional properties are not allowed ('wasm'"),
    ("WasmPlugin", "spec.phase", "UNSPECIFIED", "spec.phase: 'UNSPECIFIED' is not one of"),
    ("WasmPlugin", "spec.url", GONE, "spec: 'url' is a required property"),
    ("WasmPlugin", "spec.sha256", 64 * "A", "spec.sha256: '"),
    ("WasmPlugin", "spec.vmConfig.env.0.name", "", "spec.vmConfig.env[0].name: ''"),
    ("WasmPlugin", "spec.match.0.ports.0.number", "3001", "ports[0].number: '3001' is not of type 'integer'"),
    ("Higress", "spec.failStrategy", "FAIL_RELOAD", "spec.failStrategy: 'FAIL_RELOAD' is not one of"),
    ("Higress", "spec.selector", {}, "spec: Additional properties are not allowed ('selector'"),
    ("Higress", "spec.defaultConfig", "{}", "spec.defaultConfig: '{}' is not of type 'object'"),
    ("Higress", "spec.priority", "last", "spec.priority: 'last' is not of type 'integer', 'null'"),
    ("EnvoyFilter", "spec.selector", {}, "spec: Additional properties are not allowed ('selector'"),
    ("EnvoyFilter", "spec.configPatches.0.applyTo", "FILTER", "spec.configPatches[0].applyTo: 'FILTER'"),
    ("EnvoyFilter", "spec.configPatches.0.patch.operation", "INSERT", "configPatches[0].patch.operation: 'INSERT'"),
    ("EnvoyFilter", "spec.configPatches.0.match.cluster", {"name": "a"}, "spec.configPatches[0].match: {"),
    ("EnvoyFilter", "spec.configPatches.0.match.listener.portNumber", -1, "match.listener.portNumber: -1 is less"),
    ("EnvoyExtensionPolicy", "spec.wasm.0.rootId", "a", "spec.wasm[0]: Additional properties are not allowed"),
    ("EnvoyExtensionPolicy", "spec.wasm.0.allowOnHeadersStopIteration", True, "spec.wasm[0]: Additional properties"),
    ("EnvoyExtensionPolicy", "spec.wasm.0.code", GONE, "spec.wasm[0]: 'code' is a required property"),
    ("EnvoyExtensionPolicy", "spec.wasm.0.code.type", "OCI", "spec.wasm[0].code.type: 'OCI' is not one of"),
    ("EnvoyExtensionPolicy", "spec.wasm.0.code.pullPolicy", "Never", "code.pullPolicy: 'Never' is not one of"),
    ("EnvoyExtensionPolicy", "spec.wasm.0.failOpen", "no", "spec.wasm[0].failOpen: 'no' is not of type 'boolean'"),
    ("EnvoyPatchPolicy", "spec.jsonPatches.0.type", "Listener", "spec.jsonPatches[0].type: 'Listener' is not one of"),
    ("EnvoyPatchPolicy", "spec.jsonPatches.0.operation.op", "set", "spec.jsonPatches[0].operation.op: 'set'"),
    ("EnvoyPatchPolicy", "spec.jsonPatches.0.name", GONE, "spec.jsonPatches[0]: 'name' is a required property"),
    ("EnvoyPatchPolicy", "spec.targetRefs", [TARGET], "spec: Additional properties are not allowed ('targetRefs'"),
    ("EnvoyPatchPolicy", "spec.targetRef", GONE, "spec: 'targetRef' is a required property"),
    ("BackendTrafficPolicy", "spec.loadBalancer.endpointOverride.extractFrom", [], "extractFrom: []"),
    ("ClientTrafficPolicy", "spec.connection.bufferLimit", "much", "spec.connection.bufferLimit: 'much'"),
    ("EnvoyProxy", "spec.filterOrder.0.name", "wasm", "spec.filterOrder[0].name: 'wasm' is not one of"),
    ("HTTPRoute", "spec.rules.0.timeouts.request", "0", "spec.rules[0].timeouts.request: '0' does not match"),
    ("AuthorizationPolicy", "spec.action", "PERMIT", "spec.action: 'PERMIT' is not one of"),
    # CEL.
    ("TrafficExtension", "spec.targetRefs", [TARGET], "spec: only one of targetRefs or selector can be set"),
    ("TrafficExtension", "spec.wasm.url", "ftp://a/b", "spec.wasm.url: url must have schema one of"),
    ("TrafficExtension", "spec.wasm.vmConfig.env.0", HOST_AND_VALUE, "env[0]: value may only be set when valueFrom"),
    ("TrafficExtension", "spec.selector.matchLabels.app", "mcp-*", "matchLabels.app: wildcard not allowed in label"),
    ("TrafficExtension", "spec.wasm", GONE, "spec: exactly one of wasm or lua must be set"),
    ("WasmPlugin", "spec.targetRef", TARGET, "spec: only one of targetRefs or selector can be set"),
    ("WasmPlugin", "spec.url", "ftp://a/b", "spec.url: url must have schema one of"),
    ("WasmPlugin", "spec.selector.matchLabels", {"": "a"}, "spec.selector.matchLabels: key must not be empty"),
    ("EnvoyFilter", "spec.targetRefs", [TARGET], "spec: only one of targetRefs or workloadSelector can be set"),
    ("EnvoyFilter", "spec.configPatches.0.match.context", "WAYPOINT", "match: only support waypointMatch when"),
    ("EnvoyFilter", "spec.workloadSelector.labels.app", "*", "labels.app: wildcard is not supported in selector"),
    ("EnvoyExtensionPolicy", "spec.targetRefs", GONE, "spec: either targetRef or targetRefs must be used"),
    ("EnvoyExtensionPolicy", "spec.targetRefs.0.kind", "Service", "this policy can only have a targetRefs[*].kind of"),
    ("EnvoyExtensionPolicy", "spec.wasm.0.code.image", GONE, "code: If type is Image, image field needs to be set."),
    ("EnvoyExtensionPolicy", "spec.wasm.0.code", ANOTHER_CODE, "code: If type is HTTP, http field needs to be set."),
    ("EnvoyExtensionPolicy", "spec.wasm.0.code", SECRET, "pullSecretRef: only support Secret kind."),
    ("EnvoyExtensionPolicy", "spec.mergeType", "Replace", "mergeType: Replace is not a valid MergeType"),
    ("BackendTrafficPolicy", "spec.loadBalancer.type", "DynamicModule", "EndpointOverride is not supported"),
    ("EnvoyProxy", "spec.filterOrder.0.before", "envoy.filters.http.lua", "only one of before or after"),
    ("HTTPRoute", "spec.rules.0.matches.0.path.value", "mcp", "value must be an absolute path and start with '/'"),
    ("SecurityPolicy", "spec.jwt.providers.0.remoteJWKS", GONE, "either remoteJWKS or localJWKS must be specified."),
    # Istio has no timeout by default, and takes 0s for a mistake.
    ("VirtualService", "spec.http.0.timeout", "0s", "timeout: must be a valid duration greater than 1ms"),
    ("RequestAuthentication", "spec.jwtRules.0.jwksUri", "issuer", "jwksUri: url must have scheme http://"),
    ("Sidecar", "spec.ingress.0.captureMode", "ALL", "spec.ingress[0].captureMode: 'ALL' is not one of"),
    ("PeerAuthentication", "spec.portLevelMtls", {"99999": {"mode": "STRICT"}}, "port must be between 1-65535"),
]


def put(tree, path, value):
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        tree = tree[key]
    if value is GONE:
        del tree[last]
    elif isinstance(tree, list) and last == len(tree):
        tree.append(value)
    else:
        tree[last] = value


@pytest.mark.parametrize(
    ("kind", "path", "value", "complaint"), WRONG, ids=[f"{entry[0]}-{entry[1]}-{entry[3]}" for entry in WRONG]
)
def test_a_wrong_manifest_is_refused_for_what_is_wrong_with_it(kind, path, value, complaint):
    manifest = custom_resources.of_kind("WasmPlugin" if kind == "Higress" else kind, FILES[kind])[0]
    crd = crd_of(manifest)
    put(manifest, path, value)
    complaints = crds.complaints(crd, manifest)
    assert any(complaint in line for line in complaints), complaints
