"""Envoy with a listener for each mode of the filter, a server behind each, and clients in front of all of them."""

import asyncio
import contextlib
import copy
import json
import sys
import tempfile

from clients import Client
from ledger import Ledger
from live_envoy import LiveConfig, LiveEnvoy
from mcp_servers import free_port
from processes import ROOT, Process

HERE = ROOT / "tests/chaos"
# Longer than any request takes that is not held up by something: so an update of a listener cuts none.
DRAIN = 12
COMMON = {
    "caller": {"headers": ["x-api-key"], "anonymous": "refuse"},
    "subrequest_timeout": "2s",
    "replay_timeout": "3s",
    # Clients here open sessions far more often than others do, and the bodies of their `initialize`s have to be there still
    # when a server is killed.
    "memory": {"bulk_slots": 4096},
    "session": {"lease": "1s", "queue_timeout": "10s"},
}
MODES = {
    "forward": {"hold_request_headers": True},
    "unheld": {"hold_request_headers": False},
    "reuse": {"hold_request_headers": True, "on_reinitialize": "reuse"},
    # Where a session is lost, a new one has to wait in line as well.
    "queue": {"hold_request_headers": True, "on_reinitialize": "queue", "replay_timeout": "10s"},
}
# Name, caller and whether it echoes its session id, for each client of a listener. Names end in the caller's.
CROWD = [("silent", "a", False), ("echoing", "b", True), ("silent", "c", False), ("mate", "c", False)]
CROWD += [("echoing", "d", True), ("mate", "d", True), ("seldom", "e", False), ("seldom", "f", True)]


class ChaosServer:
    """server.py, killed and started again on one port."""

    def __init__(self, name, holds):
        self.name, self.holds = name, holds
        self.port = free_port()
        self.life = 0
        self.start()

    def start(self):
        self.life += 1
        command = (sys.executable, HERE / "server.py", self.name, self.life, self.port, self.holds)
        self.process = Process(*command)
        self.process.out.wait_for("listening")

    def kill(self):
        self.process.kill()

    def be(self, mode, seed):
        self.process.say(f"be {mode} {seed}")


class Scene:
    def __init__(self, module, seed, think=0.1, delays=(0, 0, 0, 0.02, 0.1)):
        self.ledger = Ledger()
        # Who waits for its turn gets it sooner if the others hurry.
        self.think = {name: think / 3 if name == "queue" else think for name in [*MODES, "added"]}
        self.over = asyncio.Event()
        # How long servers take for a call.
        self.delays = delays
        # Of each call: its listener, when it was sent, and for how long it took.
        self.times = []
        self._waiting = None
        self._stack = contextlib.ExitStack()
        self.folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.servers = {name: ChaosServer(name, "one" if name == "queue" else "many") for name in MODES}
        config = LiveConfig(0)
        template = config.listener
        del manager_of(template)["access_log"]
        manager_of(template)["route_config"]["virtual_hosts"][0].pop("virtual_clusters")
        manager_of(template)["route_config"]["virtual_hosts"][0]["routes"].pop(0)
        cluster = config.tree["static_resources"]["clusters"].pop()
        for server in self.servers.values():
            config.tree["static_resources"]["clusters"].append(self._cluster(cluster, server))
        self.listeners = {name: self.listener(template, name, module) for name in MODES}
        config.tree["static_resources"]["listeners"] = list(self.listeners.values())
        self.envoy = LiveEnvoy(config, drain_seconds=DRAIN)
        self.clients = [
            Client(self, listener, *one, seed=f"{seed} {listener} {number}")
            for listener in MODES
            for number, one in enumerate(self._crowd(listener))
        ]

    @staticmethod
    def _crowd(listener):
        for number, (kind, letter, echoes) in enumerate(CROWD):
            # A line of all of them would be longer than anybody waits.
            if listener == "queue" and letter in "cef":
                continue
            caller = f"caller-{listener}-{letter}"
            # A turn in a queue ends as well; mates open sessions by turns.
            alone = listener == "reuse" or (listener != "queue" and letter in "abef")
            yield caller, f"{kind}-{listener}-{letter}-{number}", echoes, alone

    @staticmethod
    def _cluster(template, server):
        cluster = copy.deepcopy(template)
        cluster["name"] = cluster["load_assignment"]["cluster_name"] = server.name
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["socket_address"]["port_value"] = server.port
        return cluster

    @staticmethod
    def listener(template, name, module, server=None, vm_id=None):
        """One more listener of the given mode, on a port of its own."""
        made = copy.deepcopy(template)
        made["name"] = name
        made["address"]["socket_address"]["port_value"] = free_port()
        manager = manager_of(made)
        manager["route_config"]["virtual_hosts"][0]["routes"][-1]["route"]["cluster"] = server or name
        plugin = plugin_of(made)
        plugin["vm_config"]["code"]["local"]["filename"] = str(module)
        if vm_id:
            plugin["vm_config"]["vm_id"] = vm_id
        settings = {**COMMON, **MODES[server or name]}
        plugin["configuration"]["value"] = json.dumps(settings)
        plugin["allow_on_headers_stop_iteration"] = settings["hold_request_headers"]
        return made

    def port(self, listener):
        return self.listeners[listener]["address"]["socket_address"]["port_value"]

    async def update(self, listeners=None):
        await asyncio.to_thread(self.envoy.update, list((listeners or self.listeners).values()))

    def alive(self, client):
        if self._waiting:
            self._waiting[0].discard(client)
            if not self._waiting[0]:
                self._waiting[1].set()

    async def all_alive(self, patience):
        """Until each client has had a life in which all went right, from now on; gives those that have not."""
        self._waiting = (set(self.clients), asyncio.Event())
        try:
            await asyncio.wait_for(self._waiting[1].wait(), patience)
        except (TimeoutError, asyncio.TimeoutError):
            pass
        missing, self._waiting = self._waiting[0], None
        return missing

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.envoy.process.stop()
        self.envoy.config.close()
        for server in self.servers.values():
            server.kill()
        self._stack.close()


def manager_of(listener):
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def plugin_of(listener):
    return manager_of(listener)["http_filters"][-2]["typed_config"]["config"]
