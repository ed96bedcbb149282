"""The real Envoy with envoy/envoy.yaml, changed only where somebody needs it."""

import copy
import json
import re
import tempfile
import urllib.request
from pathlib import Path

import yaml
from processes import ROOT, WORKERS, start_envoy

CONFIG_FILE = ROOT / "envoy/envoy.yaml"
REPLICAS_FILE = ROOT / "envoy/replicas.yaml"
MODULE = ROOT / "target/mcp_session_filter.wasm"
# Beside one for each worker: one for the main thread, the one that they are cloned from, and the one that tries the
# configuration.
VMS = 3


class EnvoyConfig:
    """envoy/envoy.yaml on free ports, in front of the given server."""

    file = CONFIG_FILE

    def __init__(self, server_port, settings=None):
        self.tree = yaml.safe_load(self.file.read_text())
        self.tree["admin"]["address"]["socket_address"]["port_value"] = 0
        self.listener["address"]["socket_address"]["port_value"] = 0
        self.point_at(server_port)
        self.plugin["vm_config"]["code"]["local"]["filename"] = str(MODULE)
        # The answer names the request, so that a test finds its line in the access log.
        self.connection_manager["always_set_request_id_in_response"] = True
        if settings is not None:
            self.set(settings)

    @property
    def listener(self):
        return self.tree["static_resources"]["listeners"][0]

    @property
    def filter_chain(self):
        return self.listener["filter_chains"][0]

    @property
    def connection_manager(self):
        return self.filter_chain["filters"][0]["typed_config"]

    @property
    def http_filters(self):
        return self.connection_manager["http_filters"]

    @property
    def plugin(self):
        return self.http_filters[-2]["typed_config"]["config"]

    @property
    def cluster(self):
        return self.tree["static_resources"]["clusters"][0]

    def point_at(self, *server_ports):
        endpoints = self.cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        for endpoint, port in zip(endpoints, server_ports, strict=True):
            endpoint["endpoint"]["address"]["socket_address"]["port_value"] = port

    def set(self, settings):
        """The filter's settings: JSON text, or what becomes it. Envoy's own flag for held headers goes with them."""
        text = settings if isinstance(settings, str) else json.dumps(settings)
        self.plugin["configuration"]["value"] = text
        self.plugin["allow_on_headers_stop_iteration"] = not isinstance(settings, str) and settings.get(
            "hold_request_headers", False
        )

    def without_filter(self):
        """The same Envoy, and no session filter in it."""
        changed = copy.deepcopy(self)
        changed.http_filters.pop(-2)
        for route in changed.connection_manager["route_config"]["virtual_hosts"][0]["routes"]:
            route.pop("typed_per_filter_config", None)
        return changed

    def has_filter(self):
        return "mcp_session_filter" in [entry["name"] for entry in self.http_filters]

    def write(self, folder):
        path = Path(folder) / "envoy.yaml"
        path.write_text(yaml.safe_dump(self.tree))
        return path


class ReplicasConfig(EnvoyConfig):
    """envoy/replicas.yaml on free ports, in front of the given replicas."""

    file = REPLICAS_FILE

    def __init__(self, server_ports, settings=None):
        self.server_ports = server_ports
        super().__init__(None, settings)

    def point_at(self, _):
        super().point_at(*self.server_ports)

    @property
    def route(self):
        return self.connection_manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]


class RealEnvoy:
    """A running Envoy; leaving the `with` block ends it and demands that no VM of the filter has crashed."""

    def __init__(self, config, env=None, workers=WORKERS, **options):
        self.vms = VMS + workers if config.has_filter() else 0
        with tempfile.TemporaryDirectory() as folder:
            admin = Path(folder) / "admin"
            file = config.write(folder)
            self.process = start_envoy(file, "--admin-address-path", admin, env=env, workers=workers, **options)
            self.admin = admin.read_text()
        try:
            assert self._get("/ready") == "LIVE\n"
            listeners = json.loads(self._get("/listeners?format=json"))["listener_statuses"]
        except BaseException:
            self.process.kill()
            raise
        self.ports = {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in listeners}
        self.port = self.ports.get("mcp") or next(iter(self.ports.values()))

    def _get(self, path):
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def stats(self, pattern):
        """Counters and gauges whose names match, by name."""
        lines = self._get(f"/stats?filter={pattern}").splitlines()
        return {name: int(value) for name, _, value in (line.rpartition(": ") for line in lines)}

    def requests_by_port(self):
        """How many requests each host of the clusters has had, the filter's own included."""
        counts = (line.split("::") for line in self._get("/clusters").splitlines() if "::rq_total::" in line)
        return {int(host.rpartition(":")[2]): int(count) for _, host, _, count in counts}

    def counter(self, outcome):
        return self.stats(f"^wasmcustom.mcp_session.{outcome}$").get(f"wasmcustom.mcp_session.{outcome}", 0)

    def outcome(self, reply):
        """What the access log says that the filter did with the request of this answer; None for nothing."""
        name = re.escape(reply.header("x-request-id"))
        word = self.process.out.wait_for(rf"request={name} mcp_session=(\S+)")[1]
        return None if word == "-" else word

    def wait_for_stat(self, name, value):
        for _ in range(10_000):
            if self.stats(f"^{re.escape(name)}$").get(name) == value:
                return
        raise AssertionError(f"{name} did not become {value}")

    def received_bytes(self):
        """How much Envoy has read from its clients so far."""
        return self.stats("^http.mcp.downstream_cx_rx_bytes_total$")["http.mcp.downstream_cx_rx_bytes_total"]

    def send_in_pieces(self, connection, pieces):
        """Each piece is read by Envoy before the next one goes."""
        for piece in pieces:
            goal = self.received_bytes() + len(piece)
            connection.sendall(piece)
            for _ in range(10_000):
                if self.received_bytes() >= goal:
                    break
            else:
                raise AssertionError(f"Envoy did not read {piece!r}")

    def memory(self, kind):
        """Bytes of this process: VmRSS is what it has now, VmHWM the most it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) * 1024

    def forget_peak_memory(self):
        """From here on VmHWM is the most since now, as proc(5) has it."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def assert_filter_lives(self):
        assert self.process.running(), "\n".join(self.process.err.lines[-20:])
        stats = self.stats("^wasm[.]")
        reloads = {name: value for name, value in stats.items() if "vm_reload" in name and value}
        assert not reloads
        # How many are active Envoy does not tell well: each thread sets that gauge to what it counted, some too late.
        assert stats.get("wasm.envoy.wasm.runtime.v8.created", 0) == self.vms
        critical = [line for line in self.process.err.lines if "[critical]" in line or "Function: proxy_" in line]
        assert not critical

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        try:
            if failure is None:
                self.assert_filter_lives()
        finally:
            self.process.stop()
