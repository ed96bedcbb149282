"""What is done to a scene; each says which failures are documented for it, and for how long they may still come."""

import asyncio
import itertools
import os
import signal
from dataclasses import dataclass

from clients import Client
from ledger import Disturbance
from live_envoy import rebuilt
from modes import MODES, listener, plugin_of
from verdict import ALREADY_GONE, SESSION_GONE

# `recover_failed`: for a second after a recovery that failed nobody tries again.
RETRIED = 1
# Envoy loads a VM that crashed again with its next request, but after crash upon crash it waits, at most so long.
RELOADED = 10
# A server that can't be reached, and who waits in line for it.
DOWN = frozenset({"503 upstream", "cut", "307", "502", "504", "503 queue", ALREADY_GONE})
# Who recovers a session then may fail, too.
FAILING = DOWN | {SESSION_GONE}
SPOILED = FAILING | {"nonsense", "5xx server"}
# If that was at work on a session where clients take turns, the line stands still until its place counts as free. An answer
# that was under way through it is cut.
CRASH = frozenset({"503 crash", "503 queue", "cut"})


@dataclass(frozen=True)
class Kind:
    name: str
    act: object
    excuses: frozenset[str] = frozenset()
    tail: float = 0
    # Whether it touches all listeners, or one.
    everywhere: bool = False
    # The filter's callback that crashes: Envoy forgets what waits there.
    crashes_in: str = ""


async def kill(scene, name, dice, **_):
    """All sessions are lost."""
    server = scene.servers[name]
    server.kill()
    await asyncio.sleep(dice.uniform(0, 0.6))
    await asyncio.to_thread(server.start)


async def restart_again(scene, name, dice, **_):
    """It dies once more while its sessions are being recovered."""
    for _ in range(2):
        await kill(scene, name, dice)
        await asyncio.sleep(dice.uniform(0, 0.1))


def stall(least, most):
    async def act(scene, name, dice, **_):
        process = scene.servers[name].process
        signal_to(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(dice.uniform(least, most))
        finally:
            signal_to(process, signal.SIGCONT)

    return act


def signal_to(process, number):
    os.kill(process.pid, number)


def behave(mode):
    async def act(scene, name, dice, **_):
        server = scene.servers[name]
        server.be(mode, dice.randrange(1 << 30))
        await asyncio.sleep(dice.uniform(0.5, 1.5))
        server.be("well", 0)

    return act


async def configure(scene, **_):
    """Envoy gets the filter's configuration in other words."""
    for one in scene.listeners.values():
        value = plugin_of(one)["configuration"]
        value["value"] += " "
    await scene.update()


builds = itertools.count(1)


async def rebuild(scene, module, **_):
    """Envoy gets another build of the filter, with the same `vm_id`."""
    path = rebuilt(scene.folder, f"build-{next(builds)}", module)
    for one in scene.listeners.values():
        plugin_of(one)["vm_config"]["code"]["local"]["filename"] = str(path)
    await scene.update()


async def remove(scene, name, dice, **_):
    """A listener is taken away and comes back."""
    await scene.update({other: one for other, one in scene.listeners.items() if other != name})
    await asyncio.sleep(dice.uniform(0, 0.5))
    await scene.update()


async def add(scene, name, dice, module, **_):
    """A listener more, whose filter has a memory of its own, and two clients that use it."""
    # Two memories can't take turns at one server.
    name = "forward" if name == "queue" else name
    template = scene.listeners[name]
    path = plugin_of(template)["vm_config"]["code"]["local"]["filename"]
    scene.listeners["added"] = listener(template, "added", path, mode=name, vm_id=f"added-{next(builds)}")
    await scene.update()
    crowd = [("silent", "x", False), ("echoing", "y", True)]
    clients = [
        Client(scene, "added", f"caller-added-{letter}", f"{kind}-added-{letter}", echoes, True, dice.random())
        for kind, letter, echoes in crowd
    ]
    await asyncio.gather(*(client.live() for client in clients))
    for client in clients:
        client.wire.close()
    del scene.listeners["added"]
    await scene.update()


def trap(place):
    async def act(scene, name, dice, **_):
        # The client's own request asks for the crash: whatever becomes of it stands in the ledger as well.
        client = passer_by(scene, name, dice)
        if await client.initialize():
            await client.call(place)
        client.wire.close()

    return act


async def trap_call(scene, dice, **_):
    """The filter opens a session for a client, and crashes at the answer."""
    # Of a caller who has none yet, where the filter opens them.
    caller = f"caller-reuse-t{next(builds)}"
    await Client(scene, "reuse", caller, f"passer-{caller}", False, False, dice.random()).vanish(trap="call")


async def vanish(scene, name, dice, **_):
    """Clients leave before they are answered."""
    clients = [passer_by(scene, name, dice) for _ in range(10)]
    await asyncio.gather(*(client.vanish() for client in clients))


def passer_by(scene, name, dice):
    """A client more, of a caller whose clients share what they have."""
    return Client(scene, name, f"caller-{name}-c", f"passer-{name}-{next(builds)}", False, False, dice.random())


KINDS = [
    Kind("server killed", kill, DOWN, RETRIED),
    Kind("server killed twice", restart_again, FAILING, RETRIED),
    # Shorter than all that waits for a server: so it may cost nobody anything.
    Kind("server stalled", stall(0.2, 1.5)),
    Kind("server stalled long", stall(3.2, 4), frozenset({"504", "503 queue"}), RETRIED),
    Kind("server slow by bytes", behave("slowly")),
    Kind("server answers nonsense", behave("garbage"), SPOILED, RETRIED),
    Kind("server cuts answers", behave("cut"), SPOILED, RETRIED),
    Kind("clients vanish", vanish),
    Kind("filter reconfigured", configure, everywhere=True),
    Kind("filter updated", rebuild, everywhere=True),
    Kind("listener removed, added", remove, frozenset({"refused", "cut"})),
    Kind("listener added, other vm_id", add),
    Kind("filter crashes at a request", trap("request"), CRASH, RELOADED, True, "proxy_on_request_headers"),
    Kind("filter crashes at an answer", trap("answer"), CRASH, RELOADED, True, "proxy_on_response_headers"),
    Kind("filter crashes at its own call", trap_call, CRASH, RELOADED, True, "proxy_on_http_call_response"),
]


class Deck:
    """The disturbances in an order that the dice choose: each once before any comes again, and none twice on end."""

    def __init__(self, dice, kinds=KINDS):
        self._dice, self._kinds, self._left, self._last = dice, kinds, [], None

    def draw(self):
        if not self._left:
            self._left = self._dice.sample(self._kinds, len(self._kinds))
            if self._left[-1] is self._last:
                self._left.reverse()
        self._last = self._left.pop()
        return self._last, self._dice.choice(list(MODES))


async def disturb(scene, kind, name, dice, module):
    """Does it once."""
    listeners = frozenset([*MODES, "added"]) if kind.everywhere else frozenset({name, "added"})
    noted = scene.ledger.begin(Disturbance(kind.name, listeners, kind.excuses, kind.tail, bool(kind.crashes_in)))
    try:
        await kind.act(scene=scene, name=name, dice=dice, module=module)
    finally:
        noted.end()


def without_effect(scene):
    """The kinds of crashes that were asked for and never came."""
    log = scene.envoy.process.err.lines
    for kind in KINDS:
        crashed = any(f"Function: {kind.crashes_in} failed" in line for line in log)
        if kind.crashes_in and kind.name in scene.ledger.rows and not crashed:
            yield f"{kind.name}: it never did"
