"""Draws what `make bench` has measured: one SVG for each part."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
# Text stays text, and equal results make equal files.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "figure.autolayout": True})

import matplotlib.pyplot as plt  # noqa: E402
from paired import Spread, difference  # noqa: E402

AXES = {"body": "bytes of body", "callers": "callers", "workers": "workers", "events": "events of an answer"}


def whiskers(spreads):
    return [[s.median - s.lower_quartile for s in spreads], [s.upper_quartile - s.median for s in spreads]]


def draw_kinds(axes, ways):
    by_name = {way["name"]: way["values"]["cpu"] for way in ways}
    bars = {way["name"]: difference(way["values"]["cpu"], by_name[way["alone"]]) for way in ways if way["alone"]}
    names, spreads = list(bars)[::-1], list(bars.values())[::-1]
    axes.barh(names, [spread.median for spread in spreads], xerr=whiskers(spreads), capsize=3)
    axes.set_xlabel("CPU that a request costs more than with Envoy alone, µs: medians and quartiles")


def draw_sweep(axes, ways, name):
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


def main():
    results_file = Path(sys.argv[1])
    for name, part in json.loads(results_file.read_text())["parts"].items():
        figure, axes = plt.subplots(figsize=(9, 5))
        if name == "kinds":
            draw_kinds(axes, part["ways"])
        else:
            draw_sweep(axes, part["ways"], name)
        path = results_file.with_name(f"{name}.svg")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        print(f"  {path}")


if __name__ == "__main__":
    main()
