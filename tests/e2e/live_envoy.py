"""The real Envoy whose listeners come from a file, and change while it runs."""

import copy
import os
import tempfile
import time
from pathlib import Path

import yaml
from mcp_servers import free_port
from real_envoy import MODULE, EnvoyConfig, RealEnvoy

# No update takes this long, however busy the machine is.
PATIENCE = 60


class LiveConfig(EnvoyConfig):
    """Any number of such listeners, each a changed copy of that in envoy/envoy.yaml; Envoy looks at their file."""

    def __init__(self, server_port, settings=None):
        super().__init__(server_port, settings)
        # A port that Envoy chooses would be another one after each update.
        self.listener["address"]["socket_address"]["port_value"] = free_port()
        self._folder = tempfile.TemporaryDirectory()
        self.listeners_file = Path(self._folder.name) / "listeners.yaml"

    def write(self, folder):
        tree = copy.deepcopy(self.tree)
        listeners = tree["static_resources"].pop("listeners")
        self.put(listeners)
        source = {"path": str(self.listeners_file), "watched_directory": {"path": self._folder.name}}
        tree["dynamic_resources"] = {"lds_config": {"path_config_source": source}}
        tree["node"] = {"id": "live", "cluster": "live"}
        path = Path(folder) / "envoy.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    def put(self, listeners):
        """Envoy sees the file change at once: it is moved there, as xDS by files wants it."""
        kind = "type.googleapis.com/envoy.config.listener.v3.Listener"
        text = yaml.safe_dump({"resources": [{"@type": kind, **one} for one in listeners]})
        new = self.listeners_file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.listeners_file)

    def close(self):
        self._folder.cleanup()


class LiveEnvoy(RealEnvoy):
    """A running Envoy whose listeners are as `update` says."""

    def __init__(self, config, **options):
        self.config = config
        super().__init__(config, **options)

    def update(self, listeners):
        """Returns once Envoy runs with these listeners; connections of those before end within its drain time."""
        accepted = self._updates("success") + 1
        self.config.put(listeners)
        deadline = time.monotonic() + PATIENCE
        while self._updates("success") < accepted or self._gauge("listener_manager.total_listeners_warming"):
            assert not self._updates("rejected"), "\n".join(self.process.err.lines[-5:])
            assert time.monotonic() < deadline, "Envoy did not take its new listeners"

    def await_drained(self):
        """Returns once nothing is left of listeners that an update replaced or removed."""
        names = ("listener_manager.total_listeners_draining", "listener_manager.total_filter_chains_draining")
        for name in names:
            deadline = time.monotonic() + PATIENCE
            while self._gauge(name):
                assert time.monotonic() < deadline, f"{name} is not 0"

    def outcomes(self):
        """All counters of the filter that are not 0, by their own names."""
        found = self.stats(r"^wasmcustom\.mcp_session\.")
        return {name.rpartition(".")[2]: value for name, value in sorted(found.items()) if value}

    def _updates(self, what):
        return self._gauge(f"listener_manager.lds.update_{what}")

    def _gauge(self, name):
        return self.stats(f"^{name}$").get(name, 0)

    def __exit__(self, failure, *rest):
        try:
            super().__exit__(failure, *rest)
        finally:
            self.config.close()


def rebuilt(folder, name, module=MODULE):
    """Another build of the same filter: a custom section more, so that Envoy sees other bytes."""
    # Section 0, its size, and a name of its own (WebAssembly core specification, Custom Section).
    section = bytes([len(name)]) + name.encode()
    path = Path(folder) / f"{name}.wasm"
    path.write_bytes(module.read_bytes() + bytes([0, len(section)]) + section)
    return path
