"""What may not be there any more once all clients have gone."""

import time

from clients import Client
from verdict import RIGHT

# Envoy notices soon that a client has gone, and how soon depends on nothing but the machine.
PATIENCE = 20
HELD = (r"^http\.mcp\.downstream_rq_active$", r"^cluster\.\w+\.upstream_rq_(active|pending_active)$")


def names(clients):
    return ", ".join(sorted(client.name for client in clients))


def left_over(scene):
    """Requests that Envoy still holds."""
    problems = []
    for pattern in HELD:
        deadline = time.monotonic() + PATIENCE
        while found := {name: value for name, value in scene.envoy.stats(pattern).items() if value}:
            if time.monotonic() > deadline:
                problems.append(f"still held: {found}")
                break
    scene.envoy.await_drained()
    return problems


async def at_once(scene):
    """In a line that is empty nobody waits: an `initialize` goes up without getting in line."""
    first, second = (
        Client(scene, "queue", "caller-queue-z", f"last-queue-{number}", True, False, number) for number in range(2)
    )
    # The last session may have a lease still, so this one may wait.
    if not await first.initialize() or not await first.delete():
        return ["at the end no session could be opened in turn"]
    before = scene.envoy.counter("queued")
    problems = []
    if not await second.initialize() or await second.call() != RIGHT or not await second.delete():
        problems.append("at the end a client could not work")
    if scene.envoy.counter("queued") != before:
        problems.append("somebody is still in line")
    for client in (first, second):
        client.wire.close()
    return problems
