"""What istiod and the proxy's agent make of manifests, as a configuration that a real Envoy runs.

Learned from Istio 1.30.3; each function names the file that it follows. Left out is what the public Envoy does not have
(istio.alpn, istio.stats, peer metadata) and what has no part in it (access logs, tracing, RDS).
"""

import copy
import json
from pathlib import Path

import yaml
from real_envoy import MODULE, EnvoyConfig

WASM = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"
# The contexts of an EnvoyFilter, and what match.mode calls them (workloadModeForListenerClass in model/extensions.go).
MODES = {"GATEWAY": "CLIENT", "SIDECAR_INBOUND": "SERVER", "SIDECAR_OUTBOUND": "CLIENT"}
PHASES = ["AUTHN", "AUTHZ", "STATS", "UNSPECIFIED"]


def as_traffic_extension(plugin):
    """pilot/pkg/config/kube/extensions/translate.go: istiod turns a WasmPlugin into a TrafficExtension."""
    spec = copy.deepcopy(plugin["spec"])
    outside = ("selector", "targetRefs", "phase", "priority", "match")
    return {
        "kind": "TrafficExtension",
        "metadata": {**plugin["metadata"], "name": plugin["metadata"]["name"] + "~istio-translated-wasmplugin"},
        "spec": {key: spec.pop(key) for key in outside if key in spec} | {"wasm": spec},
    }


def from_higress(plugin):
    """pkg/ingress/config/ingress_config.go of Higress 2.2.1: its WasmPlugin becomes one of Istio's in the gateway."""
    spec = copy.deepcopy(plugin["spec"])
    settings, rules = spec.pop("defaultConfig", {}), spec.pop("matchRules", [])
    if rules:
        settings["_rules_"] = [{"_match_route_": rule["ingress"], **rule["config"]} for rule in rules]
    return {**plugin, "apiVersion": "extensions.istio.io/v1alpha1", "spec": {**spec, "pluginConfig": settings}}


def attaches(extension, context, port):
    """matchTrafficExtensionSelectors in pilot/pkg/model/extensions.go."""
    rules = extension["spec"].get("match")
    return not rules or any(
        rule.get("mode", "UNDEFINED") in ("UNDEFINED", "CLIENT_AND_SERVER", MODES[context])
        and (not rule.get("ports") or port in [entry["number"] for entry in rule["ports"]])
        for rule in rules
    )


def by_priority(manifest):
    """The order within a phase: sortByPriority in pilot/pkg/model/push_context.go. Without one is last."""
    return -manifest["spec"].get("priority", -(2**31))


def wasm_resource(extension):
    """The ECDS resource: buildWasmConfig and buildVMConfig in pilot/pkg/model/extensions.go."""
    wasm = extension["spec"]["wasm"]
    name = f"{extension['metadata']['namespace']}.{extension['metadata']['name']}"
    values = {"ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1"}
    if "imagePullPolicy" in wasm:
        values["ISTIO_META_WASM_IMAGE_PULL_POLICY"] = wasm["imagePullPolicy"]
    keys = []
    for variable in wasm.get("vmConfig", {}).get("env", []):
        if variable.get("valueFrom", "INLINE") == "HOST":
            keys.append(variable["name"])
        else:
            values[variable["name"]] = variable["value"]
    config = {
        "name": name,
        "root_id": wasm["pluginName"],
        # No vm_id, and no allow_on_headers_stop_iteration.
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"remote": {"http_uri": {"uri": wasm["url"], "cluster": "_", "timeout": "30s"}, "sha256": ""}},
            "environment_variables": {"key_values": values, "host_env_keys": keys},
        },
    }
    if wasm.get("pluginConfig"):
        text = json.dumps(wasm["pluginConfig"])
        config["configuration"] = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text}
    policies = {"FAIL_OPEN": "FAIL_OPEN", "FAIL_CLOSE": "FAIL_CLOSED", "FAIL_RELOAD": "FAIL_RELOAD"}
    config["failure_policy"] = policies[wasm.get("failStrategy", "FAIL_CLOSE")]
    return {
        "name": f"extensions.istio.io/trafficextension/{name}",
        "typed_config": {"@type": WASM, "config": config},
    }


def from_the_agent(resource):
    """pkg/wasm/convert.go: the agent replaces what is to be downloaded by a file, and takes its own variables out."""
    resource = copy.deepcopy(resource)
    vm = resource["typed_config"]["config"]["vm_config"]
    assert vm["code"].pop("remote")["http_uri"]["uri"].startswith("oci://")
    vm["code"]["local"] = {"filename": str(MODULE)}
    variables = vm.get("environment_variables", {})
    values = variables.get("key_values", {})
    variables["key_values"] = {key: value for key, value in values.items() if not key.startswith("ISTIO_META_")}
    if not variables["key_values"] and not variables.get("host_env_keys"):
        vm.pop("environment_variables", None)
    return resource


def jwt_filter(policies, jwks):
    """convertToEnvoyJwtConfig in pilot/pkg/security/authn/policy_applier.go; istiod fetches the keys."""
    (rule,) = [rule for policy in policies for rule in policy["spec"]["jwtRules"]]
    provider = {
        "issuer": rule["issuer"],
        "forward": rule.get("forwardOriginalToken", False),
        "payload_in_metadata": "payload",
        "local_jwks": {"inline_string": jwks},
    }
    either = [{"provider_name": "origins-0"}, {"allow_missing": {}}]
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": either}}}],
            "providers": {"origins-0": provider},
            "bypass_cors_preflight": True,
        },
    }


def rbac_filter(policies):
    """pilot/pkg/security/authz/model/generator.go, for whoever has no verified token, at some hosts."""
    (policy,) = policies
    (rule,) = policy["spec"]["rules"]
    assert rule["from"] == [{"source": {"notRequestPrincipals": ["*"]}}]

    def claim(name):
        path = [{"key": "payload"}, {"key": name}]
        value = {"string_match": {"safe_regex": {"regex": ".+"}}}
        return {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}}

    def is_host(pattern):
        match = {"prefix": pattern[:-1]} if pattern.endswith("*") else {"exact": pattern}
        return {"header": {"name": ":authority", "string_match": {**match, "ignore_case": True}}}

    hosts = [is_host(pattern) for entry in rule["to"] for pattern in entry["operation"]["hosts"]]
    nobody = {"not_id": {"and_ids": {"ids": [claim("iss"), claim("sub")]}}}
    entry = {"permissions": [{"or_rules": {"rules": hosts}}], "principals": [nobody]}
    rules = {"action": policy["spec"]["action"], "policies": {"mcp": entry}}
    message = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
    return {"name": "envoy.filters.http.rbac", "typed_config": {"@type": message, "rules": rules}}


def plain(name, message):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.filters.http.{message}"}}


class IstioConfig(EnvoyConfig):
    """The listener, route and cluster that istiod makes for one MCP server in a proxy of this context."""

    def __init__(self, manifests, context, server_port, jwks=None, port=3001):
        super().__init__(server_port)
        # Envoy asks for extensions under a name.
        self.tree["node"] = {"id": "a-proxy", "cluster": "a-mesh"}
        self.resources = []
        self.manifests = manifests
        self.context = context
        self.port = port
        # buildHTTPConnectionManager in pilot/pkg/networking/core/listener_builder.go; who uses the remote address is
        # said in gateway.go, listener_inbound.go and listener.go.
        self.connection_manager["use_remote_address"] = context == "GATEWAY"
        self.connection_manager["stream_idle_timeout"] = "0s"
        del self.connection_manager["request_timeout"]
        self.connection_manager["normalize_path"] = True
        self.connection_manager["http_filters"] = self.chain(jwks)
        route = {"cluster": self.cluster_name(), "timeout": "0s"}
        (host,) = self.connection_manager["route_config"]["virtual_hosts"]
        host["routes"] = [{"match": {"prefix": "/"}, "route": route}]
        self.tree["static_resources"]["clusters"] = [self.made_cluster(server_port)]

    def of_kind(self, *kinds):
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    def chain(self, jwks):
        """The order in buildHTTPConnectionManager; EnvoyFilters come last (envoyfilter/listener_patch.go)."""
        by_phase = {phase: [] for phase in PHASES}
        for manifest in sorted(self.of_kind("TrafficExtension", "WasmPlugin"), key=by_priority):
            extension = as_traffic_extension(manifest) if manifest["kind"] == "WasmPlugin" else manifest
            if attaches(extension, self.context, self.port):
                by_phase[extension["spec"].get("phase", "UNSPECIFIED")].append(wasm_resource(extension))
        entries = list(by_phase["AUTHN"])
        if policies := self.of_kind("RequestAuthentication"):
            entries.append(jwt_filter(policies, jwks))
        entries += by_phase["AUTHZ"]
        if policies := self.of_kind("AuthorizationPolicy"):
            entries.append(rbac_filter(policies))
        entries += by_phase["STATS"] + by_phase["UNSPECIFIED"]
        entries += [
            plain("envoy.filters.http.grpc_stats", "grpc_stats.v3.FilterConfig"),
            plain("envoy.filters.http.fault", "fault.v3.HTTPFault"),
            plain("envoy.filters.http.cors", "cors.v3.Cors"),
            plain("envoy.filters.http.router", "router.v3.Router"),
        ]
        filters = [
            self.discovered(entry) if entry["name"].startswith("extensions.istio.io/") else entry for entry in entries
        ]
        for manifest in self.of_kind("EnvoyFilter"):
            self.patch(filters, manifest["spec"]["configPatches"])
        return filters

    def discovered(self, resource):
        """toEnvoyHTTPTrafficExtension in pilot/pkg/networking/core/extension/extensionfilter.go."""
        self.resources.append(resource)
        source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
        rbac = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
        return {"name": resource["name"], "config_discovery": {"config_source": source, "type_urls": [WASM, rbac]}}

    def patch(self, filters, patches):
        """patchHTTPFilters and InsertedExtensionConfigurations in pilot/pkg/networking/core/envoyfilter."""
        for entry in patches:
            match, operation = entry["match"], entry["patch"]["operation"]
            if match["context"] != self.context or match.get("listener", {}).get("portNumber", self.port) != self.port:
                continue
            value = copy.deepcopy(entry["patch"]["value"])
            if entry["applyTo"] == "EXTENSION_CONFIG":
                assert operation == "ADD"
                self.resources.append(value)
            else:
                assert (entry["applyTo"], operation) == ("HTTP_FILTER", "INSERT_BEFORE")
                anchor = match["listener"]["filterChain"]["filter"]["subFilter"]["name"]
                names = [one["name"] for one in filters]
                filters.insert(names.index(anchor), value)

    def cluster_name(self):
        if self.context == "SIDECAR_INBOUND":
            return f"inbound|{self.port}||"
        return f"outbound|{self.port}||mcp-server.mcp.svc.cluster.local"

    def made_cluster(self, server_port):
        """cluster_builder.go (buildInboundCluster) and cluster.go (buildInboundClustersFromSidecar) beside that."""
        name = self.cluster_name()
        ingress = [entry for sidecar in self.of_kind("Sidecar") for entry in sidecar["spec"]["ingress"]]
        if self.context == "SIDECAR_INBOUND" and not any("defaultEndpoint" in entry for entry in ingress):
            return {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s"}
        address = {"socket_address": {"address": "127.0.0.1", "port_value": server_port}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        assignment = {"cluster_name": name, "endpoints": endpoints}
        return {"name": name, "type": "STATIC", "connect_timeout": "10s", "load_assignment": assignment}

    @property
    def plugins(self):
        """The configurations of wasm filters that Envoy gets from the agent."""
        return [from_the_agent(resource)["typed_config"]["config"] for resource in self.resources]

    def has_filter(self):
        return bool(self.resources)

    def with_filters_inline(self):
        """The same without discovery, so that `envoy --mode validate` sees the filters' configuration, too."""
        changed = copy.deepcopy(self)
        by_name = {resource["name"]: from_the_agent(resource) for resource in self.resources}
        changed.connection_manager["http_filters"] = [by_name.get(one["name"], one) for one in self.http_filters]
        changed.resources = []
        return changed

    def write(self, folder):
        """With a file of ECDS resources for each filter in place of istiod."""
        for number, resource in enumerate(self.resources):
            path = Path(folder) / f"extension-{number}.yaml"
            wrapped = {
                "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                **from_the_agent(resource),
            }
            path.write_text(yaml.safe_dump({"resources": [wrapped]}))
            (entry,) = [one for one in self.http_filters if one["name"] == resource["name"]]
            source = entry["config_discovery"]["config_source"]
            source.pop("ads")
            source["path_config_source"] = {"path": str(path)}
        return super().write(folder)
