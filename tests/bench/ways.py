"""A way is a kind of request through one of the Envoys. They are measured round by round, so that what changes on the
machine meanwhile meets all of them."""

import random
import time
from dataclasses import dataclass, field

from load import Load, Request, ask, send
from processes import Process
from real_envoy import RealEnvoy
from upstream import SEEN

WARM_UP = 500
# How long counters may take to show what was sent.
COUNTED_WITHIN = 5


@dataclass(frozen=True)
class Way:
    name: str
    envoy: RealEnvoy
    request: Request
    # What the filter has to count for each request, or for this part of them.
    outcome: str | None = None
    least: float = 1.0
    # The session in which the server has to see it.
    session: str | None = None
    warm_up: int = WARM_UP
    # What Envoy asks for each request.
    service: Process | None = None
    # The names of those that it is compared with: they get the same requests, without a filter and with an empty one.
    alone: str | None = None
    empty: str | None = None
    # Where it stands in a plot: on which line, and how far to the right.
    line: str = ""
    x: int = 0

    def send(self, count, rate=None):
        return send(self.envoy, self.request, count, rate, self.service)


@dataclass
class Found:
    """What was measured of a way: for each measure a value of each round."""

    way: Way
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values):
        for measure, value in values.items():
            self.values.setdefault(measure, []).append(value)

    def as_json(self):
        way = self.way
        names = {"name": way.name, "alone": way.alone, "empty": way.empty, "line": way.line, "x": way.x}
        return {**names, "values": self.values}


def warm_up(way):
    """Sends the first requests, and demands that the filter did with them what it is to be measured at."""
    seen = ask(way.envoy, way.request).getheader(SEEN) if way.session else None
    if seen != way.session:
        raise RuntimeError(f"{way.name}: the server saw the session {seen}")
    before = way.envoy.counter(way.outcome) if way.outcome else 0
    load = way.send(way.warm_up)
    if way.outcome:
        deadline = time.monotonic() + COUNTED_WITHIN
        while (counted := way.envoy.counter(way.outcome) - before) < way.warm_up * way.least:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{way.name}: {counted} of {way.warm_up} requests were {way.outcome}")
    return load


def steady_and_busy(seconds):
    """Measures at a fixed rate, a quarter of what the slowest way can do, and then at what a way can do."""

    def prepare(loads):
        rate = max(100, round(min(load.rate for load in loads) / 4, -2))

        def measure(way, load):
            steady = way.send(int(rate * seconds), rate)
            full = way.send(max(1, int(load.rate * seconds / 2)))
            return {
                "cpu": steady.cpu,
                "service_cpu": steady.service_cpu,
                "p50": steady.p50,
                "p99": steady.p99,
                "busy_cpu": full.cpu,
                "rate": full.rate,
            }

        return measure, {"steady_rate": rate}

    return prepare


def busy(seconds):
    """Measures at what a way can do, and how much memory it takes meanwhile."""

    def prepare(_):
        def measure(way, load):
            way.envoy.forget_peak_memory()
            found = way.send(max(way.warm_up // 5, int(load.rate * seconds / 3)))
            return {"cpu": found.cpu, "rate": found.rate, "memory": way.envoy.memory("VmHWM")}

        return measure, {}

    return prepare


def run(ways, rounds, prepare, say):
    """All ways in each round, each round in an order of its own."""
    loads: dict[str, Load] = {}
    for way in ways:
        warm_up(way)
        loads[way.name] = way.send(way.warm_up)
    measure, facts = prepare(loads.values())
    found = {way.name: Found(way) for way in ways}
    for number in range(rounds):
        for way in random.Random(number).sample(ways, len(ways)):
            found[way.name].add(measure(way, loads[way.name]))
        say(f"round {number + 1} of {rounds}")
    return found, facts
