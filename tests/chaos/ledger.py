"""Which answers came amid which disturbances, and whether what went wrong is documented for one of them."""

import time
from collections import Counter
from dataclasses import dataclass, field

from verdict import CROSSED, FAILURES, FORGOTTEN, HUNG, RIGHT, WRONG

QUIET = "none"
LOST = "lost"


@dataclass
class Disturbance:
    """One time that something was disturbed, on these listeners."""

    name: str
    listeners: frozenset[str]
    # The failures that are documented for it.
    excuses: frozenset[str]
    # How long after its end they may still come, in seconds: a bound that the README names.
    tail: float
    # Whether it makes Envoy forget what waits in the filter.
    forgets: bool = False
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def end(self):
        self.ended = time.monotonic()

    def touches(self, listener, sent, done):
        over = self.ended is not None and sent > self.ended + self.tail
        return listener in self.listeners and done >= self.began and not over


@dataclass
class Row:
    """What came of the requests amid one kind of disturbance."""

    times: int = 0
    requests: int = 0
    kinds: Counter = field(default_factory=Counter)

    @property
    def documented(self):
        return {kind: count for kind, count in self.kinds.items() if kind in FAILURES or kind == FORGOTTEN}


class Ledger:
    """A request amid several disturbances stands in the row of each; what is bad stands in `complaints`, once."""

    def __init__(self):
        self.disturbances = []
        self.rows = {}
        self.complaints = []
        self.totals = Counter()

    def begin(self, disturbance):
        self.disturbances.append(disturbance)
        self.rows.setdefault(disturbance.name, Row()).times += 1
        return disturbance

    def amid(self, listener, sent, done):
        return [one for one in self.disturbances if one.touches(listener, sent, done)]

    def note(self, listener, sent, done, verdict):
        """Counts a request, and says what it counts as: what is not documented is wrong."""
        amid = self.amid(listener, sent, done)
        kind = verdict.kind
        if kind in FAILURES and not any(kind in one.excuses for one in amid):
            kind = WRONG
        if kind == HUNG and any(one.forgets and (one.ended is None or sent <= one.ended) for one in amid):
            kind = FORGOTTEN
        self.totals["requests"] += 1
        self.totals[kind] += 1
        for name in {one.name for one in amid} or {QUIET}:
            row = self.rows.setdefault(name, Row())
            row.requests += 1
            row.kinds[kind] += 1
        if kind in (CROSSED, WRONG, LOST, HUNG):
            names = sorted({one.name for one in amid}) or [QUIET]
            self.complaints.append(f"{kind} at {listener}, amid {', '.join(names)}: {verdict.kind} {verdict.why}")
        return kind

    @property
    def errors(self):
        return {kind: count for kind, count in self.totals.items() if kind in FAILURES or kind == FORGOTTEN}

    def table(self):
        """Lines of text: a row for each disturbance."""
        head = ("disturbance", "times", "requests", "right", "documented", "wrong", "crossed", "lost", "hung")
        lines = [head]
        for name, row in sorted(self.rows.items(), key=lambda pair: (pair[0] == QUIET, pair[0])):
            bad = [row.kinds[kind] for kind in (WRONG, CROSSED, LOST, HUNG)]
            count = sum(row.documented.values())
            cells = (name, row.times if name != QUIET else "-", row.requests, row.kinds[RIGHT], count, *bad)
            lines.append(tuple(str(cell) for cell in cells))
        bad = [self.totals[kind] for kind in (WRONG, CROSSED, LOST, HUNG)]
        count = sum(self.errors.values())
        sums = ("all", len(self.disturbances), self.totals["requests"], self.totals[RIGHT], count, *bad)
        lines.append(tuple(str(cell) for cell in sums))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        return ["  ".join(cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths))) for line in lines]
