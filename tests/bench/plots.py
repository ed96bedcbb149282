"""Draws what `make bench` has measured: one SVG for each part."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
# Text stays text, and equal results make equal files.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "figure.autolayout": True})

import matplotlib.pyplot as plt  # noqa: E402
from names import CONTROL  # noqa: E402
from paired import Spread, difference  # noqa: E402

AXES = {"body": "bytes of body", "callers": "callers", "workers": "workers", "events": "events of an answer"}


def whiskers(spreads):
    return [[s.median - s.lower_quartile for s in spreads], [s.upper_quartile - s.median for s in spreads]]


def draw_kinds(axes, ways, measure):
    """A bar for what each way adds; grey where the noise hides it."""
    by_name = {way["name"]: way["values"][measure] for way in ways}
    added = {way["name"]: difference(by_name[way["name"]], by_name[way["alone"]]) for way in ways if way["alone"]}
    noise = added[CONTROL].reach
    names, spreads = list(added)[::-1], list(added.values())[::-1]
    colours = ["tab:blue" if spread.is_told_from(noise) else "lightgrey" for spread in spreads]
    axes.barh(names, [spread.median for spread in spreads], xerr=whiskers(spreads), capsize=3, color=colours)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("µs")


def draw_all_kinds(ways):
    titles = {"cpu": "CPU, at a steady rate", "busy_cpu": "CPU, busy", "p50": "latency (p50), at a steady rate"}
    figure, all_axes = plt.subplots(ncols=len(titles), sharey=True, figsize=(16, 5))
    for axes, (measure, title) in zip(all_axes, titles.items(), strict=True):
        draw_kinds(axes, ways, measure)
        axes.set_title(title)
    figure.suptitle("What a request costs more than with Envoy alone: medians, and quartiles of the rounds")
    return figure


def draw_sweep(ways, name):
    figure, axes = plt.subplots(figsize=(9, 5))
    for line in dict.fromkeys(way["line"] for way in ways):
        points = [way for way in ways if way["line"] == line]
        spreads = [Spread.of(way["values"]["cpu"]) for way in points]
        axes.errorbar(
            [way["x"] for way in points],
            [spread.median for spread in spreads],
            yerr=whiskers(spreads),
            marker="o",
            capsize=3,
            label=line,
        )
    if name != "workers":
        axes.set_xscale("log")
    if name in ("body", "events"):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(AXES[name])
    axes.set_ylabel("CPU of a request, µs")
    axes.legend()
    return figure


def main():
    results_file = Path(sys.argv[1])
    for name, part in json.loads(results_file.read_text())["parts"].items():
        figure = draw_all_kinds(part["ways"]) if name == "kinds" else draw_sweep(part["ways"], name)
        path = results_file.with_name(f"{name}.svg")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        print(f"  {path}")


if __name__ == "__main__":
    main()
