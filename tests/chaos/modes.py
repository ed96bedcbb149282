"""A listener and a cluster for each mode of the filter."""

import copy
import json

from live_envoy import LiveConfig
from mcp_servers import free_port

COMMON = {
    "caller": {"headers": ["x-api-key"], "anonymous": "refuse"},
    "subrequest_timeout": "2s",
    "replay_timeout": "3s",
    # Clients here open sessions far more often than others do, and the bodies of their `initialize`s have to be there
    # still when a server is killed.
    "memory": {"bulk_slots": 8192},
    "session": {"lease": "1s", "queue_timeout": "10s"},
}
MODES = {
    "forward": {"hold_request_headers": True},
    "unheld": {"hold_request_headers": False},
    "reuse": {"hold_request_headers": True, "on_reinitialize": "reuse"},
    # Where a session is lost, a new one has to wait in line as well.
    "queue": {"hold_request_headers": True, "on_reinitialize": "queue", "replay_timeout": "10s"},
}


class ModesConfig(LiveConfig):
    """envoy/envoy.yaml once for each mode, in front of servers on these ports, and without its access log."""

    def __init__(self, ports, module):
        super().__init__(0)
        manager = self.connection_manager
        del manager["access_log"]
        [host] = manager["route_config"]["virtual_hosts"]
        host["routes"] = host["routes"][-1:]
        resources = self.tree["static_resources"]
        resources["clusters"] = [cluster(self.cluster, name, port) for name, port in ports.items()]
        resources["listeners"] = [listener(self.listener, name, module) for name in ports]


def cluster(template, name, port):
    made = copy.deepcopy(template)
    made["name"] = made["load_assignment"]["cluster_name"] = name
    [host] = made["load_assignment"]["endpoints"][0]["lb_endpoints"]
    host["endpoint"]["address"]["socket_address"]["port_value"] = port
    return made


def listener(template, name, module, mode=None, vm_id=None):
    """One more listener, on a port of its own, in front of the server of its mode."""
    mode = mode or name
    made = copy.deepcopy(template)
    made["name"] = name
    made["address"]["socket_address"]["port_value"] = free_port()
    manager_of(made)["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] = mode
    plugin = plugin_of(made)
    plugin["vm_config"]["code"]["local"]["filename"] = str(module)
    plugin["vm_config"]["vm_id"] = vm_id or plugin["vm_config"]["vm_id"]
    settings = {**COMMON, **MODES[mode]}
    plugin["configuration"]["value"] = json.dumps(settings)
    plugin["allow_on_headers_stop_iteration"] = settings["hold_request_headers"]
    return made


def manager_of(listener):
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def plugin_of(listener):
    return manager_of(listener)["http_filters"][-2]["typed_config"]["config"]
