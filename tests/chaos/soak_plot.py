"""Draws what `make soak` has seen: memory, how long calls took, and outcomes, over time."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
# Text stays text, and equal results make equal files.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "soak", "figure.autolayout": True})

import matplotlib.pyplot as plt  # noqa: E402

# The counters whose growth is drawn: what becomes of most requests, and what should never be.
NEVER = ("host_error", "contended", "no_seat", "hold_unsupported", "queue_refused", "lost", "recover_failed")


def minutes(samples):
    return [sample["at"] / 60 for sample in samples]


def draw_memory(axes, samples):
    for key, name in {"rss": "RSS", "allocated": "allocated by Envoy, without V8"}.items():
        axes.plot(minutes(samples), [sample[key] for sample in samples], label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MiB")


def draw_latency(axes, samples):
    modes = dict.fromkeys(name for sample in samples for name in sample["latency"])
    for colour, name in enumerate(modes):
        points = [sample for sample in samples if name in sample["latency"]]
        for key, style in {"p50": "-", "p99": ":"}.items():
            values = [sample["latency"][name][key] for sample in points]
            axes.plot(minutes(points), values, style, color=f"C{colour}", label=f"{name}, {key}")
    axes.set_yscale("log")
    for axis_part in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_part("{x:g}")
    axes.set_ylabel("a call takes, ms")


def draw_outcomes(axes, samples):
    names = sorted(name for name in samples[-1]["counted"] if name != "live")
    bad = [name for name in NEVER if name in names]
    for name in [*(name for name in names if name not in bad), *bad]:
        grown = [
            (later["counted"].get(name, 0) - earlier["counted"].get(name, 0)) / (later["at"] - earlier["at"])
            for earlier, later in zip(samples, samples[1:])
        ]
        axes.plot(minutes(samples[1:]), grown, "--" if name in bad else "-", label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("each second")
    axes.set_xlabel("minutes")


def draw(samples):
    figure, rows = plt.subplots(nrows=3, sharex=True, figsize=(11, 11))
    for axes, part in zip(rows, (draw_memory, draw_latency, draw_outcomes), strict=True):
        part(axes, samples)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
        axes.grid(alpha=0.3)
    figure.suptitle("Envoy and the filter under a steady load")
    return figure


def main():
    results = Path(sys.argv[1])
    path = results.with_suffix(".svg")
    draw(json.loads(results.read_text())["samples"]).savefig(path, metadata={"Date": None})
    print(f"  {path}")


if __name__ == "__main__":
    main()
