"""Whether two ways differ, from rounds that each measured both: paired differences, and what the noise hides."""

import random
import statistics
from dataclasses import asdict, dataclass
from math import comb, inf, isfinite

# How sure an interval for a median has to be.
CONFIDENCE = 0.95
DRAWS = 2000


def ranks(count):
    """From which to which of so many sorted values the true median lies with CONFIDENCE, whatever they are spread like.

    Each value is on either side of the median with the same chance: this is the sign test. Under six values tell nothing.
    """
    outside, rank = 0.0, 0
    while rank <= count // 2:
        outside += 2 * comb(count, rank) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    return (rank - 1, count - rank) if rank else None


@dataclass(frozen=True)
class Spread:
    """A median, its quartiles, and between which two values the true median is."""

    median: float
    lower_quartile: float
    upper_quartile: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        ordered = sorted(values)
        low, high = -inf, inf
        if found := ranks(len(ordered)):
            low, high = ordered[found[0]], ordered[found[1]]
        quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
        return cls(statistics.median(ordered), quartiles[0], quartiles[2], low, high)

    @property
    def reach(self):
        """The furthest from zero that the true median may be."""
        return max(abs(self.low), abs(self.high))

    def is_told_from(self, noise):
        """Whether this is a difference: zero is not a likely median, and the noise alone does not reach so far."""
        return (self.low > 0 or self.high < 0) and abs(self.median) > noise

    def as_json(self):
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}


def difference(values, baseline):
    """Of each round's value, from the same round's baseline."""
    return Spread.of([value - base for value, base in zip(values, baseline, strict=True)])


def ratio(values, others, baseline):
    """How many times as much `values` add to the baseline as the others do, and between what that is.

    By medians, as the others may add nothing in a round. What lies in between is found by drawing rounds again and again.
    """
    rounds = list(zip(values, others, baseline, strict=True))
    dice = random.Random(0)
    drawn = sorted(times(dice.choices(rounds, k=len(rounds))) for _ in range(DRAWS))
    outside = round(DRAWS * (1 - CONFIDENCE) / 2)
    return times(rounds), drawn[outside], drawn[-1 - outside]


def times(rounds):
    added = statistics.median(other - base for _, other, base in rounds)
    return statistics.median(value - base for value, _, base in rounds) / added if added > 0 else inf
