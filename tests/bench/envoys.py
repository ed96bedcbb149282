"""The Envoys that are measured: envoy/envoy.yaml with one filter or another in the session filter's place."""

from cores import MEASURED, on
from processes import ROOT
from real_envoy import EnvoyConfig, RealEnvoy
from upstream import header, typed

FILTERS = ROOT / "target/bench_filters/wasm32-wasip1/release/bench_filters.wasm"
LUA_SCRIPT = ROOT / "tests/bench/session.lua"
LUA = typed("lua", "http.lua.v3.Lua", default_source_code={"filename": str(LUA_SCRIPT)})
NATIVE = typed("native", "http.mcp.v3.Mcp", traffic_mode="PASS_THROUGH")


def compared(name):
    """One of the filters in tests/bench/filters."""
    code = {"local": {"filename": str(FILTERS)}}
    return typed(
        name,
        "http.wasm.v3.Wasm",
        config={
            "name": name,
            "root_id": name,
            # As the session filter: headers can wait for the body.
            "allow_on_headers_stop_iteration": True,
            "vm_config": {"vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": code},
        },
    )


EMPTY, FLOOR = compared("empty"), compared("floor")
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

    def __init__(self, upstream, *filters, clusters=()):
        super().__init__(upstream.port)
        self.tree["static_resources"]["clusters"] += clusters
        del self.connection_manager["access_log"]
        self.connection_manager["http_filters"] = [*filters, self.http_filters[-1]]
        for route in self.connection_manager["route_config"]["virtual_hosts"][0]["routes"]:
            route.pop("typed_per_filter_config", None)

    def has_filter(self):
        return any(entry["typed_config"]["@type"].endswith(".wasm.v3.Wasm") for entry in self.http_filters)


def session_filter(settings):
    """The filter of envoy/envoy.yaml, with these settings."""
    return EnvoyConfig(0, settings).http_filters[-2]


def start(upstream, *filters, clusters=(), workers=1, apart=True):
    """One that runs on a core of its own, if there is one: apart from the load, the server and whatever else it asks."""
    with on(MEASURED if apart else None):
        return RealEnvoy(BenchConfig(upstream, *filters, clusters=clusters), workers=workers)
