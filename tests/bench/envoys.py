"""The Envoys that are measured: envoy/envoy.yaml with one filter or another in the session filter's place."""

from processes import ROOT
from real_envoy import EnvoyConfig, RealEnvoy
from upstream import header, typed

EMPTY_FILTER = ROOT / "target/empty_filter/wasm32-wasip1/release/empty_filter.wasm"
LUA_SCRIPT = ROOT / "tests/bench/session.lua"
LUA = typed("lua", "http.lua.v3.Lua", default_source_code={"filename": str(LUA_SCRIPT)})
NATIVE = typed("native", "http.mcp.v3.Mcp", traffic_mode="PASS_THROUGH")
EMPTY = typed(
    "empty",
    "http.wasm.v3.Wasm",
    config={
        "name": "empty",
        "vm_config": {
            "vm_id": "empty",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": str(EMPTY_FILTER)}},
        },
    },
)
# oha sends the same headers with each request, but any query: this makes a credential of it.
CREDENTIAL = typed(
    "credential",
    "http.header_mutation.v3.HeaderMutation",
    mutations={"request_mutations": [{"append": header("authorization", "Bearer %QUERY_PARAM(caller)%")}]},
)
HOLDS = {"hold_request_headers": True}
LEAVES_IDS = {**HOLDS, "translate_ids": False}
# Almost as many callers as can be remembered.
CROWDED = {**LEAVES_IDS, "memory": {"slots": 128_000}}


class BenchConfig(EnvoyConfig):
    """envoy/envoy.yaml without its access log, and with these filters before the router."""

    def __init__(self, upstream, *filters):
        super().__init__(upstream.port)
        del self.connection_manager["access_log"]
        self.connection_manager["http_filters"] = [*filters, self.http_filters[-1]]
        for route in self.connection_manager["route_config"]["virtual_hosts"][0]["routes"]:
            route.pop("typed_per_filter_config", None)

    def has_filter(self):
        return any(entry["typed_config"]["@type"].endswith(".wasm.v3.Wasm") for entry in self.http_filters)


def session_filter(settings):
    """The filter of envoy/envoy.yaml, with these settings."""
    return EnvoyConfig(0, settings).http_filters[-2]


def start(upstream, *filters, workers=1):
    return RealEnvoy(BenchConfig(upstream, *filters), workers=workers)
