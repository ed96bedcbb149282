"""A real Envoy under load while servers die, the filter crashes and is replaced, and clients leave.

Every answer is judged. At the end nothing may be left: no request that hangs, no client that can't work, no place in
line.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parents[1] / "envoy")]
from disturbances import KINDS, Deck, configure, disturb, without_effect  # noqa: E402
from left_over import at_once, left_over, names  # noqa: E402
from processes import ROOT  # noqa: E402
from scene import Scene  # noqa: E402
from terminal import bold, faint  # noqa: E402

MODULE = ROOT / "target/chaos/mcp_session_filter.wasm"
MIB = 1 << 20
# README, Limits: what the filter may keep in shared data, in all.
CEILING = 45 * MIB
# How long clients have to be well again: the longest that anything waits, and a turn for each in line.
RECOVERY = 60
# So many problems are printed.
SHOWN = 40


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=50, help="how long it is disturbed")
    parser.add_argument("--seed", type=int, default=None, help="chooses the disturbances")
    parser.add_argument("--only", nargs="*", choices=[kind.name for kind in KINDS], help="no other disturbances")
    return parser.parse_args()


def say(began, what):
    took = int(time.monotonic() - began)
    print(faint(f"  {took // 60}:{took % 60:02} {what}"), flush=True)


def memory(envoy):
    return envoy.memory("VmRSS"), envoy.stats("^server.memory_allocated$")["server.memory_allocated"]


async def run(scene, options, seed):
    began = time.monotonic()
    work = [asyncio.create_task(client.run()) for client in scene.clients]
    problems = []
    try:
        if missing := await scene.all_alive(RECOVERY):
            problems.append(f"before anything was disturbed, these did not work: {names(missing)}")
        before = memory(scene.envoy)
        dice = random.Random(seed)
        kinds = [kind for kind in KINDS if not options.only or kind.name in options.only]
        deck = Deck(dice, kinds)
        while time.monotonic() - began < options.seconds:
            kind, name = deck.draw()
            say(began, f"{kind.name}{'' if kind.everywhere else f': {name}'}")
            await disturb(scene, kind, name, dice, MODULE)
            await asyncio.sleep(dice.uniform(0, 0.5))
        say(began, "no more disturbances: until all clients have worked once more")
        if missing := await scene.all_alive(RECOVERY):
            problems.append(f"these clients did not come to work again: {names(missing)}")
    finally:
        scene.over.set()
        await asyncio.gather(*work)
    say(began, "until Envoy holds nothing")
    problems += await asyncio.to_thread(left_over, scene)
    problems += await at_once(scene)
    problems += without_effect(scene)
    # Envoy lets go of filters that it has replaced when it makes the next one.
    await configure(scene)
    await asyncio.to_thread(scene.envoy.await_drained)
    after = memory(scene.envoy)
    return problems, before, after


def report(scene, before, after):
    crashes = scene.envoy.stats(r"^wasm\..*vm_reload_success$")
    rss, allocated = ([f"{value / MIB:.1f}" for value in pair] for pair in zip(before, after))
    outcomes = ", ".join(f"{name} {count}" for name, count in scene.envoy.outcomes().items())
    return [
        *scene.ledger.table(),
        "",
        f"the filter counted: {outcomes}",
        f"filters loaded again after crashes: {sum(crashes.values())}",
        f"Envoy's memory in MiB, when all had been used once and at the end: RSS {rss[0]}, {rss[1]}; "
        f"allocated without V8 {allocated[0]}, {allocated[1]}",
    ]


def main():
    options = arguments()
    # What ends this program also ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"\n  {bold('Chaos')}: {options.seconds:.0f} seconds; the same disturbances with SEED={seed}\n", flush=True)
    with Scene(MODULE, seed) as scene:
        problems, before, after = asyncio.run(run(scene, options, seed))
        print("\n" + "\n".join(f"  {line}" for line in report(scene, before, after)))
    if after[1] - before[1] > CEILING:
        problems.append("Envoy's memory has grown by more than the filter may keep")
    problems += scene.ledger.complaints
    for problem in problems[:SHOWN]:
        print(f"  ✗ {problem}")
    end = f"{len(problems)} problems" if problems else "Nothing wrong, nothing crossed, nothing lost, nothing held."
    print(f"\n  {bold(end)}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print()
        sys.exit(1)
