"""Envoy with a listener for each mode of the filter, a server behind each, and clients in front of all of them."""

import asyncio
import contextlib
import sys
import tempfile

from clients import Client
from ledger import Ledger
from live_envoy import LiveEnvoy
from mcp_servers import free_port
from modes import MODES, ModesConfig
from processes import ROOT, Process

HERE = ROOT / "tests/chaos"
# Longer than any request takes that is not held up by something: so an update of a listener cuts none.
DRAIN = 15
# Name, caller and whether it echoes its session id, for each client of a listener. Names end in the caller's.
CROWD = [("silent", "a", False), ("echoing", "b", True), ("silent", "c", False), ("mate", "c", False)]
CROWD += [("echoing", "d", True), ("mate", "d", True), ("seldom", "e", False), ("seldom", "f", True)]


class ChaosServer:
    """server.py, killed and started again on one port."""

    def __init__(self, name):
        self.name = name
        self.holds = "one" if name == "queue" else "many"
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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Scene:
    """Opened by `with`. The clients run once somebody has them run, until `over` is set."""

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
        with contextlib.ExitStack() as stack:
            self.folder = stack.enter_context(tempfile.TemporaryDirectory())
            self.servers = {name: stack.enter_context(ChaosServer(name)) for name in MODES}
            config = ModesConfig({name: server.port for name, server in self.servers.items()}, module)
            stack.callback(config.close)
            self.listeners = dict(zip(MODES, config.tree["static_resources"]["listeners"]))
            self.envoy = LiveEnvoy(config, drain_seconds=DRAIN)
            stack.callback(self.envoy.process.stop)
            self._running = stack.pop_all()
        self.clients = [
            Client(self, listener, *one, seed=f"{seed} {listener} {number}")
            for listener in MODES
            for number, one in enumerate(self._crowd(listener))
        ]

    @staticmethod
    def _crowd(listener):
        """What tells its clients from each other."""
        for number, (kind, letter, echoes) in enumerate(CROWD):
            # A line of all of them would be longer than anybody waits.
            if listener == "queue" and letter in "cef":
                continue
            caller = f"caller-{listener}-{letter}"
            # A turn in a queue ends as well; mates open sessions by turns.
            alone = listener == "reuse" or (listener != "queue" and letter in "abef")
            yield caller, f"{kind}-{listener}-{letter}-{number}", echoes, alone

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
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._waiting[1].wait(), patience)
        missing, self._waiting = self._waiting[0], None
        return missing

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._running.close()
