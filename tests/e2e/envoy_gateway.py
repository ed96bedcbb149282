"""What Envoy Gateway makes of manifests, as a configuration that a real Envoy runs.

Learned from Envoy Gateway 1.9.0; each function names the file under internal/ that it follows. Left out is what has
no part in it (access logs, discovery of routes and endpoints). The module comes from a file instead of the
controller's own server.
"""

import json

import jsonpath
from real_envoy import MODULE, EnvoyConfig

WASM = "envoy.filters.http.wasm"
# newOrderedHTTPFilter in xds/translator/httpfilters.go, as far as it is needed here.
ORDER = {"jwt_authn": 10, "wasm": 200, "rbac": 301, "local_ratelimit": 302, "ratelimit": 303, "router": 310}
DEFAULT_BUFFER = 32768


def kind_of_filter(entry):
    return entry["name"].split("/")[0]


def in_order(filters, positions):
    """sortHTTPFilters in xds/translator/httpfilters.go: the usual order, and then each wish in turn."""
    filters = sorted(filters, key=lambda entry: ORDER[kind_of_filter(entry).removeprefix("envoy.filters.http.")])
    for position in positions:
        moved = [entry for entry in filters if kind_of_filter(entry) == position["name"]]
        anchors = [entry for entry in filters if kind_of_filter(entry) == position["after"]]
        if moved and anchors:
            filters = [entry for entry in filters if entry not in moved]
            place = filters.index(anchors[-1]) + 1
            filters[place:place] = moved
    return filters


def wasm_filter(policy, number):
    """buildHCMWasmFilter and wasmConfig in xds/translator/wasm.go, buildWasm in gatewayapi/envoyextensionpolicy.go."""
    wasm = policy["spec"]["wasm"][number]
    metadata = policy["metadata"]
    name = f"envoyextensionpolicy/{metadata['namespace']}/{metadata['name']}/wasm/{number}"
    text = json.dumps(wasm["config"]) if "config" in wasm else ""
    config = {
        "name": wasm.get("name", name),
        "root_id": wasm.get("rootID", ""),
        "fail_open": wasm.get("failOpen", False),
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text},
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": str(MODULE)}},
        },
    }
    # Written out as protobuf does: what is not set is not there.
    if not config["fail_open"]:
        del config["fail_open"]
    if keys := wasm.get("env", {}).get("hostKeys"):
        config["vm_config"]["environment_variables"] = {"host_env_keys": keys}
    message = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"
    # The route switches it on.
    return {"name": f"{WASM}/{name}", "disabled": True, "typed_config": {"@type": message, "config": config}}


def jwt_filter(policy, jwks):
    """buildJWTProvider in xds/translator/jwt.go; the keys are fetched before."""
    (provider,) = policy["spec"]["jwt"]["providers"]
    built = {
        "issuer": provider["issuer"],
        "payload_in_metadata": provider["name"],
        "forward": True,
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope", "scp"]},
        "local_jwks": {"inline_string": jwks},
    }
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"provider": built},
            "requirement_map": {"requirement": {"provider_name": "provider"}},
        },
    }


def load_balancing(policies):
    """buildXdsCluster and buildEndpointOverrideLoadBalancingPolicy in xds/translator/cluster.go."""

    def policy(name, message, **fields):
        at = f"type.googleapis.com/envoy.extensions.load_balancing_policies.{name}.v3.{message}"
        full = f"envoy.load_balancing_policies.{name}"
        return {"policies": [{"typed_extension_config": {"name": full, "typed_config": {"@type": at, **fields}}}]}

    least_request = policy("least_request", "LeastRequest")
    for spec in [entry["spec"]["loadBalancer"] for entry in policies]:
        assert spec["type"] == "LeastRequest"
        sources = [{"header": one["header"]} for one in spec["endpointOverride"]["extractFrom"]]
        return policy("override_host", "OverrideHost", override_host_sources=sources, fallback_policy=least_request)
    return least_request


def buffer_limit(policies):
    """buildPerConnectionBufferLimitBytes in xds/translator/listener.go."""
    for policy in policies:
        limit = policy["spec"]["connection"]["bufferLimit"]
        assert limit.endswith("Ki")
        return int(limit[:-2]) * 1024
    return DEFAULT_BUFFER


def patched(resources, patches):
    """processJSONPatches in xds/translator/jsonpatch.go, ApplyJSONPatches in utils/jsonpatch/patch.go."""
    for patch in patches:
        resource, operation = resources[patch["type"].rpartition(".")[2], patch["name"]], patch["operation"]
        where = operation.get("jsonPath", "$")
        places = [match.pointer() for match in jsonpath.finditer(where, resource)]
        assert places, f"{where} leads nowhere"
        for place in places:
            assert operation["op"] == "add"
            pointer = f"{place}/{operation['path'].removeprefix('/')}"
            jsonpath.patch.apply([{"op": "add", "path": pointer, "value": operation["value"]}], resource)


class GatewayConfig(EnvoyConfig):
    """The listener, route and cluster that Envoy Gateway makes for one HTTPRoute with one backend."""

    def __init__(self, manifests, server_ports, jwks=None):
        super().__init__(server_ports[0])
        self.manifests = manifests
        gateway, route = self.only("Gateway"), self.only("HTTPRoute")
        namespace = route["metadata"]["namespace"]
        (rule,) = route["spec"]["rules"]
        cluster = f"httproute/{namespace}/{route['metadata']['name']}/rule/0"

        # addHCMToXDSListener in xds/translator/listener.go.
        settings = {
            "use_remote_address": True,
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
            "server_header_transformation": "PASS_THROUGH",
            "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        }
        self.connection_manager.update(settings)
        # Envoy Gateway leaves the limit on idle streams to the route: idleTimeout in xds/translator/route.go.
        del self.connection_manager["stream_idle_timeout"], self.connection_manager["request_timeout"]
        wasms = [
            wasm_filter(policy, number)
            for policy in self.of_kind("EnvoyExtensionPolicy")
            for number in range(len(policy["spec"]["wasm"]))
        ]
        jwts = [jwt_filter(policy, jwks) for policy in self.of_kind("SecurityPolicy")]
        router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        last = {"name": "envoy.filters.http.router", "typed_config": {"@type": router, "suppress_envoy_headers": True}}
        positions = [entry for proxy in self.of_kind("EnvoyProxy") for entry in proxy["spec"]["filterOrder"]]
        self.connection_manager["http_filters"] = in_order([*wasms, *self.other_filters(), *jwts, last], positions)

        timeout = rule.get("timeouts", {}).get("request")
        action = {"cluster": cluster, "upgrade_configs": [{"upgrade_type": "websocket"}]}
        if timeout:
            action |= {"timeout": timeout, "idle_timeout": timeout}
        (path,) = [match["path"]["value"] for match in rule["matches"]]
        on = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
        requirement = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig"
        (host,) = self.connection_manager["route_config"]["virtual_hosts"]
        host["domains"] = route["spec"]["hostnames"]
        host["routes"] = [
            {
                "match": {"path_separated_prefix": path},
                "route": action,
                "typed_per_filter_config": {
                    **{entry["name"]: {"@type": on, "config": {}} for entry in wasms},
                    **{entry["name"]: {"@type": requirement, "requirement_name": "requirement"} for entry in jwts},
                },
            }
        ]
        (listener,) = gateway["spec"]["listeners"]
        self.listener["name"] = f"{namespace}/{gateway['metadata']['name']}/{listener['name']}"
        self.listener["per_connection_buffer_limit_bytes"] = buffer_limit(self.of_kind("ClientTrafficPolicy"))
        self.tree["static_resources"]["clusters"] = [self.made_cluster(cluster, server_ports)]
        resources = {("Listener", self.listener["name"]): self.listener, ("Cluster", cluster): self.cluster}
        for policy in self.of_kind("EnvoyPatchPolicy"):
            patched(resources, policy["spec"]["jsonPatches"])

    def other_filters(self):
        return []

    def made_cluster(self, name, server_ports):
        endpoints = [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
            for port in server_ports
        ]
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "10s",
            "per_connection_buffer_limit_bytes": DEFAULT_BUFFER,
            "load_balancing_policy": load_balancing(self.of_kind("BackendTrafficPolicy")),
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        }

    def of_kind(self, kind):
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def only(self, kind):
        (manifest,) = self.of_kind(kind)
        return manifest

    @property
    def wasm(self):
        (entry,) = [entry for entry in self.http_filters if kind_of_filter(entry) == WASM]
        return entry["typed_config"]["config"]

    def has_filter(self):
        return bool(self.of_kind("EnvoyExtensionPolicy"))
