"""What was measured, in words: tables in Markdown, in which a difference that the noise hides is none."""

from names import CONTROL, EMPTY, EXT_PROC, FLOOR, LEFT_ALONE, LUA, NATIVE, TRANSLATED
from paired import Spread, difference, ratio

HIDDEN = "within the noise"
OTHERS = (EMPTY, FLOOR, LUA, NATIVE, EXT_PROC)
MEASURES = {"cpu": "CPU", "busy_cpu": "busy: CPU", "p50": "p50"}
TENTH = 0.1
UNITS = {"body": "bytes", "callers": "callers", "workers": "workers", "events": "events"}


class Part:
    """One part of the bench, to be asked for differences."""

    def __init__(self, found):
        self.ways = {one["name"]: one for one in found}

    def values(self, name, measure):
        return self.ways[name]["values"][measure]

    def median(self, name, measure):
        return Spread.of(self.values(name, measure)).median

    def added(self, name, measure, to=None):
        baseline = to or self.ways[name]["alone"]
        return difference(self.values(name, measure), self.values(baseline, measure))

    def noise(self, measure):
        """How far the same Envoy is from itself; where that was not measured, its own rounds have to tell."""
        return self.added(CONTROL, measure).reach if CONTROL in self.ways else 0.0

    def times(self, name, other, measure):
        """How many times as much as the other this one adds; nothing where the noise hides what either adds."""
        if any(not self.added(one, measure).is_told_from(self.noise(measure)) for one in (name, other)):
            return None
        baseline = self.values(self.ways[name]["alone"], measure)
        return ratio(self.values(name, measure), self.values(other, measure), baseline)

    def say_added(self, name, measure, form, scale=1.0):
        spread = self.added(name, measure)
        if not spread.is_told_from(self.noise(measure)):
            return HIDDEN
        return f"{spread.median / scale:+{form}} ({spread.low / scale:+{form}} to {spread.high / scale:+{form}})"

    def say_times(self, name, other, measure):
        if not other:
            return ""
        if not (found := self.times(name, other, measure)):
            return HIDDEN
        median, low, high = found
        return f"{median:.2f} ({low:.2f} to {high:.2f})"

    def say_times_empty(self, name, measure):
        return self.say_times(name, self.ways[name]["empty"], measure)


def say_below(found, bound):
    """On which side of a bound a ratio is, if its interval says so."""
    if not found:
        return HIDDEN
    _, low, high = found
    return "yes" if high < bound else "no" if low >= bound else "not told"


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def heading(*cells):
    return [row(*cells), row("---", *["---:"] * (len(cells) - 1))]


def kinds(results):
    """Each kind of request, and what else there is."""
    part = Part(results["kinds"]["ways"])
    lines = heading(
        "",
        "CPU per request",
        "added",
        "times an empty filter's",
        "busy: added",
        "times an empty filter's",
        "p50",
        "p99",
        "requests/s, busy",
    )
    for name, way in part.ways.items():
        cpu, rate = f"{part.median(name, 'cpu'):.1f} µs", f"{part.median(name, 'rate'):,.0f}"
        p50, p99 = (f"{part.median(name, measure) / 1000:.2f} ms" for measure in ("p50", "p99"))
        if way["alone"] is None:
            lines.append(row(name, cpu, "", "", "", "", p50, p99, rate))
            continue
        lines.append(
            row(
                *(name, cpu),
                *(part.say_added(name, "cpu", ".1f"), part.say_times_empty(name, "cpu")),
                *(part.say_added(name, "busy_cpu", ".1f"), part.say_times_empty(name, "busy_cpu")),
                *(part.say_added(name, measure, ".2f", 1000) for measure in ("p50", "p99")),
                part.say_added(name, "rate", ",.0f"),
            )
        )
    rounds, rate = len(part.values(CONTROL, "cpu")), results["kinds"]["steady_rate"]
    noise = ", ".join(f"{what} {part.noise(measure):.1f} µs" for measure, what in MEASURES.items())
    explained = [
        f"Medians of {rounds} rounds, in µs and ms; in brackets where the true median is, with 95 %. At {rate:.0f} requests/s;",
        f"busy: with as many as are answered. Noise, so far is the same Envoy from itself: {noise}.",
    ]
    return [*lines, "", *explained, "", *beside_others(part)]


def beside_others(part):
    """What a repair adds, measured by what others add."""
    columns = [f"{name}: {what}" for name in (LEFT_ALONE, TRANSLATED) for what in MEASURES.values()]
    lines = heading("what a repair adds, times what is added by", *columns)
    for other in OTHERS:
        cells = [part.say_times(name, other, measure) for name in (LEFT_ALONE, TRANSLATED) for measure in MEASURES]
        lines.append(row(other, *cells))
    found = part.times(LEFT_ALONE, EXT_PROC, "p50")
    own, whole = (part.median(EXT_PROC, measure) for measure in ("service_cpu", "cpu"))
    return [
        *lines,
        "",
        f"Less than a tenth of the latency (p50) that {EXT_PROC} adds, ids left alone: {say_below(found, TENTH)}.",
        f"Of the {whole:.0f} µs of CPU with {EXT_PROC}, {own:.0f} µs are the service's.",
    ]


def sweep(results, name):
    """How the cost grows with one thing."""
    part = Part(results[name]["ways"])
    points = sorted({way["x"] for way in part.ways.values()})
    names = list(dict.fromkeys(way["line"] for way in part.ways.values()))
    columns = [names[0], *(f"{line}: added" for line in names[1:])]
    memory = [f"{line}: memory" for line in names] if name in ("body", "callers") else []
    rates = [f"{line}: requests/s" for line in names] if name == "workers" else []
    lines = heading(UNITS[name], *columns, *memory, *rates)
    for x in points:
        cells = [f"{part.median(f'{names[0]}, {x}', 'cpu'):,.1f}"]
        cells += [part.say_added(f"{line}, {x}", "cpu", ",.1f") for line in names[1:]]
        cells += [f"{part.median(f'{line}, {x}', 'memory') / (1 << 20):.0f} MiB" for line in names if memory]
        cells += [f"{part.median(f'{line}, {x}', 'rate'):,.0f}" for line in names if rates]
        lines.append(row(f"{x:,}", *cells))
    for line in names if name == "callers" else []:
        first, last = (f"{line}, {x}" for x in (points[0], points[-1]))
        grown = part.added(last, "cpu", to=first)
        share = (
            f"{100 * grown.median / part.median(first, 'cpu'):+.0f} % of all CPU" if grown.is_told_from(0) else HIDDEN
        )
        lines += ["", f"{line}, from {points[0]:,} to {points[-1]:,}: {share}."]
    return lines


def everything(results):
    lines = kinds(results) if "kinds" in results else []
    for name, unit in UNITS.items():
        if name in results:
            lines += ["", f"CPU per request in µs, by {unit}:", "", *sweep(results, name)]
    return lines
