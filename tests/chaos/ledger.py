"""Which answers came amid which disturbances, and whether what went wrong is documented for one of them."""

import time
from collections import Counter
from dataclasses import dataclass, field

from verdict import CROSSED, FAILURES, FORGOTTEN, HUNG, RIGHT, WRONG

QUIET = "none"
# In seconds: nothing but what was forgotten is under way for so long when Envoy ends it.
LONG = 8
LOST = "lost"
BAD = (WRONG, CROSSED, LOST, HUNG)
HEAD = ("disturbance", "times", "requests", "right", "documented", *BAD, "documented errors")


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

    def forgets_what_came(self, sent):
        return self.forgets and (self.ended is None or sent <= self.ended)

    def documents(self, kind, sent):
        """A crash cuts what was under way in it, and nothing that came later."""
        return kind in self.excuses and (kind != "cut" or not self.forgets or self.forgets_what_came(sent))

    def may_cause(self, kind):
        """Whether a request of this kind counts in its row."""
        return self.forgets if kind == FORGOTTEN else kind not in FAILURES or kind in self.excuses


@dataclass
class Row:
    """What came of the requests amid one kind of disturbance."""

    times: int = 0
    requests: int = 0
    kinds: Counter = field(default_factory=Counter)

    @property
    def documented(self):
        return {kind: count for kind, count in self.kinds.items() if kind in (*FAILURES, FORGOTTEN)}


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
        # Envoy may end it before its client does, when it drains what has been replaced.
        may_be_forgotten = kind == HUNG or (kind == "cut" and done - sent > LONG)
        if may_be_forgotten and any(one.forgets_what_came(sent) for one in amid):
            kind = FORGOTTEN
        elif kind in FAILURES and not any(one.documents(kind, sent) for one in amid):
            kind = WRONG
        self.totals["requests"] += 1
        self.totals[kind] += 1
        # What is documented for some of them is theirs.
        causes = [one for one in amid if one.may_cause(kind)]
        for name in {one.name for one in causes} or {QUIET}:
            row = self.rows.setdefault(name, Row())
            row.requests += 1
            row.kinds[kind] += 1
        if kind in BAD:
            names = ", ".join(sorted({one.name for one in amid}) or [QUIET])
            took = f"{done - sent:.1f} s"
            self.complaints.append(f"{kind} at {listener}, amid {names}, after {took}: {verdict.kind} {verdict.why}")
        return kind

    @property
    def errors(self):
        return {kind: count for kind, count in self.totals.items() if kind in (*FAILURES, FORGOTTEN)}

    def table(self):
        """Lines of text: a row for each disturbance."""
        rows = sorted(self.rows.items(), key=lambda pair: (pair[0] == QUIET, pair[0]))
        every = Row(len(self.disturbances), self.totals["requests"], self.totals)
        lines = [HEAD, *(cells(name, row) for name, row in [*rows, ("all", every)])]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
        return [line_of(line, widths) for line in lines]


def cells(name, row):
    counts = [row.kinds[RIGHT], sum(row.documented.values()), *(row.kinds[kind] for kind in BAD)]
    which = ", ".join(f"{kind}: {count}" for kind, count in sorted(row.documented.items()))
    return (name, *(str(count) for count in (row.times, row.requests, *counts)), which)


def line_of(line, widths):
    first, *numbers, last = line
    padded = [number.rjust(width) for number, width in zip(numbers, widths[1:])]
    return "  ".join([first.ljust(widths[0]), *padded, last]).rstrip()
