"""Builds the targets of libFuzzer and runs each for a while, two at a time where there are two cores; then a table.

What the fuzzer has found out stays in target/fuzz/corpus, and it goes on from there; what fails is in
target/fuzz/artifacts. No sanitizer: the filter's code is safe Rust, so there is no memory for one to watch over, and
without it the stable compiler will do. What overflows panics, as in other tests.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUZZ = ROOT / "tests/fuzz"
TARGET = ROOT / "target/fuzz"
# Longer inputs find nothing that shorter ones do not, more slowly.
LIMITS = ["-max_len=4096", "-timeout=25", "-rss_limit_mb=1024"]


@dataclass
class Result:
    """What came of one target."""

    name: str
    log: str
    failed: bool
    crashes: int

    def number(self, pattern: str) -> str:
        """The last number that the log has behind this."""
        found = re.findall(pattern + r"\s*(\d+)", self.log)
        return found[-1] if found else "-"

    def row(self) -> tuple[str, ...]:
        runs = self.number("stat::number_of_executed_units:")
        speed = self.number("stat::average_exec_per_sec:")
        return self.name, runs, speed, self.number("corp:"), self.number("cov:"), str(self.crashes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many at a time")
    parser.add_argument("targets", nargs="*", help="all, if none is named")
    arguments = parser.parse_args()
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler.split()[0]):
        print(f"    skipped: libFuzzer takes a C++ compiler, and there is no {compiler} here")
        return 0
    names = arguments.targets or [path.stem for path in sorted(FUZZ.glob("targets/*.rs"))]
    programs = build()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(lambda name: run(programs, name, arguments.seconds), names))
    show(results)
    return int(any(result.failed for result in results))


def build() -> Path:
    print("==> the targets of libFuzzer", flush=True)
    path = f"{ROOT / 'target/tools/bin'}{os.pathsep}{os.environ['PATH']}"
    command = ["cargo", "fuzz", "build", "--sanitizer", "none", "--fuzz-dir", FUZZ, "--target-dir", TARGET]
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    if built.returncode:
        sys.exit(built.stderr)
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))
    return TARGET / host[1] / "release"


def run(programs: Path, name: str, seconds: int) -> Result:
    print(f"==> fuzzing: {name}, {seconds} s", flush=True)
    corpus, artifacts = TARGET / "corpus" / name, TARGET / "artifacts" / name
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    command = [programs / name, f"-max_total_time={seconds}", *LIMITS, "-print_final_stats=1"]
    command.append(f"-artifact_prefix={artifacts}/")
    dictionary = FUZZ / f"dictionaries/{name}.dict"
    command += [f"-dict={dictionary}"] if dictionary.exists() else []
    ran = subprocess.run([*command, corpus, FUZZ / "seeds" / name], capture_output=True)
    log = ran.stderr.decode(errors="replace")
    (TARGET / f"{name}.log").write_text(log)
    # One that a busy machine made slow is no failure.
    found = sorted(path for path in set(artifacts.iterdir()) - before if not path.name.startswith("slow-unit"))
    for artifact in found:
        print(f"    {name} fails: {programs / name} {artifact}", flush=True)
    if ran.returncode:
        print("\n".join(log.splitlines()[-40:]), flush=True)
    return Result(name, log, ran.returncode != 0, len(found))


def show(results: list[Result]) -> None:
    head = ("target", "runs", "runs/s", "corpus", "coverage", "crashes")
    rows = [head, *(result.row() for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for name, *numbers in rows:
        cells = [name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(numbers, widths[1:]))]
        print("    " + "  ".join(cells))


if __name__ == "__main__":
    sys.exit(main())
