"""What a request costs: Envoy alone, with filters of several kinds, and with the session filter, side by side.

Every round measures every way once, and what is compared was measured in the same round. A difference that is no larger
than what the noise makes is not called one.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "envoy"))
import cores  # noqa: E402
import envoys  # noqa: E402
import parts  # noqa: E402
import tables  # noqa: E402
from processes import ROOT  # noqa: E402
from real_envoy import RealEnvoy  # noqa: E402
from terminal import bold, faint  # noqa: E402
from upstream import UpstreamConfig  # noqa: E402
from ways import busy, run, steady_and_busy  # noqa: E402

RESULTS = ROOT / "target/bench/results.json"
PARTS = ("kinds", *parts.SWEEPS)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=27, help="under six tell no difference")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a way is measured in a round, about")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="the parts to measure")
    return parser.parse_args()


def machine():
    return {"cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release()}


def measure(name, rounds, seconds, say):
    with contextlib.ExitStack() as running:
        upstream = running.enter_context(RealEnvoy(UpstreamConfig(), workers=1))

        def start(*filters, **options):
            return running.enter_context(envoys.start(upstream, *filters, **options))

        say("starting, and opening sessions")
        if name == "kinds":
            ways, prepare = parts.kinds(start, running.enter_context), steady_and_busy(seconds)
        else:
            ways, prepare = parts.SWEEPS[name](start), busy(seconds)
        say("warming up")
        found, facts = run(ways, rounds, prepare, say)
    return {**facts, "ways": [one.as_json() for one in found.values()]}


def main():
    options = arguments()
    # What ends this program also ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.sched_setaffinity(0, cores.OTHERS)
    began = time.monotonic()
    print(f"\n  {bold('What a request costs')}: {options.rounds} rounds\n", flush=True)
    results = {}
    for name in options.only:

        def say(what, name=name):
            took = int(time.monotonic() - began)
            print(faint(f"  {took // 60}:{took % 60:02} {name}: {what}"), flush=True)

        results[name] = measure(name, options.rounds, options.seconds, say)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(
            json.dumps({"machine": machine(), "rounds": options.rounds, "parts": results}, indent=1) + "\n"
        )
    lines = tables.everything(results)
    RESULTS.with_name("results.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
        sys.exit(1)
