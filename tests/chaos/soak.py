"""A real Envoy under a steady load: its memory, how long calls take, and what came of them, over a long time."""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parent / "bench"), str(HERE.parents[1] / "envoy")]
from left_over import at_once, left_over, names  # noqa: E402
from load import cpu_clock  # noqa: E402
from modes import MODES  # noqa: E402
from processes import ROOT  # noqa: E402
from real_envoy import MODULE  # noqa: E402
from scene import Scene  # noqa: E402
from terminal import bold, faint  # noqa: E402

RESULTS = ROOT / "target/soak/soak.json"
MIB = 1 << 20
# Between two looks, in seconds.
PERIOD = 10
# Of a client between two of its requests, in seconds: about a hundred requests each second in all.
THINK = 0.23
# Until each client has worked once.
PATIENCE = 60
SEED = 1


def look(scene, began, clock, before):
    """What there is now, and what came since the look before."""
    now, cpu = time.monotonic(), time.clock_gettime_ns(clock) / 1e9
    totals = dict(scene.ledger.totals)
    times, scene.times[:] = list(scene.times), []
    sample = {
        "at": now - began,
        "rss": scene.envoy.memory("VmRSS") / MIB,
        "allocated": scene.envoy.stats("^server.memory_allocated$")["server.memory_allocated"] / MIB,
        "totals": totals,
        "counted": scene.envoy.outcomes(),
        "cpu": 0.0 if before is None else (cpu - before["cpu_seconds"]) / (now - began - before["at"]),
        "cpu_seconds": cpu,
        "latency": {},
    }
    for name in MODES:
        taken = sorted(seconds * 1000 for listener, _, seconds in times if listener == name)
        if len(taken) > 1:
            cuts = statistics.quantiles(taken, n=100, method="inclusive")
            sample["latency"][name] = {"p50": cuts[49], "p99": cuts[98]}
    return sample


def say(sample):
    at, requests = int(sample["at"]), sample["totals"].get("requests", 0)
    words = f"{requests} requests, RSS {sample['rss']:.1f} MiB, Envoy's CPU {100 * sample['cpu']:.0f} %"
    print(faint(f"  {at // 60}:{at % 60:02} {words}"), flush=True)


async def run(scene, seconds):
    work = [asyncio.create_task(client.run()) for client in scene.clients]
    clock = cpu_clock(scene.envoy.process.pid)
    samples = []
    try:
        missing = await scene.all_alive(PATIENCE)
        began = time.monotonic()
        scene.times.clear()
        while time.monotonic() - began < seconds:
            samples.append(look(scene, began, clock, samples[-1] if samples else None))
            say(samples[-1])
            # A look at each time: nothing is awaited.
            await asyncio.sleep(PERIOD)
        samples.append(look(scene, began, clock, samples[-1]))
    finally:
        scene.over.set()
        await asyncio.gather(*work)
    problems = await asyncio.to_thread(left_over, scene)
    if missing:
        problems.append(f"these clients did not work: {names(missing)}")
    return samples, problems + await at_once(scene)


def summary(scene, samples):
    first, last = samples[0], samples[-1]
    # By a tenth of the time all has been used once.
    settled = samples[len(samples) // 10]
    seconds = last["at"] - first["at"]
    requests = last["totals"]["requests"] - first["totals"].get("requests", 0)
    busy = (last["cpu_seconds"] - first["cpu_seconds"]) / seconds
    lines = [
        f"requests            {requests} in {seconds:.0f} s, {requests / seconds:.0f} each second",
        f"Envoy's CPU         {100 * busy:.1f} % of a core, {1e6 * busy * seconds / requests:.0f} µs for a request",
    ]
    for key, name in {"rss": "RSS", "allocated": "allocated"}.items():
        values = [f"{sample[key]:.1f}" for sample in (first, settled, last)]
        lines.append(f"{name:<20}{values[0]} MiB, after a tenth of the time {values[1]}, at the end {values[2]}")
    for name in MODES:
        found = [sample["latency"][name] for sample in samples if name in sample["latency"]]
        p50, p99 = (statistics.median(one[key] for one in found) for key in ("p50", "p99"))
        lines.append(f"{name:<20}p50 {p50:.1f} ms, p99 {p99:.1f} ms (medians over all looks)")
    outcomes = ", ".join(f"{name} {value}" for name, value in scene.envoy.outcomes().items())
    lines.append(f"counted             {outcomes}")
    return [*lines, "", *scene.ledger.table()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=900)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"\n  {bold('Soak')}: {options.seconds:.0f} seconds\n", flush=True)
    with Scene(MODULE, SEED, THINK, delays=(0,)) as scene:
        samples, problems = asyncio.run(run(scene, options.seconds))
        lines = summary(scene, samples)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"seconds": options.seconds, "samples": samples}, indent=1) + "\n")
    RESULTS.with_name("soak.txt").write_text("\n".join(lines) + "\n")
    problems += scene.ledger.complaints[:40]
    print("\n" + "\n".join(f"  {line}" for line in [*lines, "", *(f"✗ {problem}" for problem in problems)]) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print()
        sys.exit(1)
