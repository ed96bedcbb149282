"""Pods without Kubernetes: the containers of a manifest, as Linux makes them. Needs root.

A pod is a network namespace. A container is a process in it that sees the files, has the user and lacks the rights
that the manifest says. What is not done: seccomp, limits of resources, and images. Programs of this machine stand for
those.
"""

import contextlib
import ctypes
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from litellm_scene import ask
from manifests import all_containers, config_files, container, pod_spec
from processes import ENVOY, ROOT, Process

TOOLS = ["ip", "unshare", "nsenter", "setpriv", "chroot", "mount"]
MODULE = ROOT / "target/mcp_session_filter.wasm"
# Below, what a program needs of this machine. A Python may be in somebody's home, which only they may enter.
SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/proc", "/dev"]
PROGRAMS = {str(ROOT), sys.base_prefix, str(Path(os.path.realpath(shutil.which("node") or "/usr/bin/node")).parents[1])}
FROM_ETC = ["ld.so.cache", "passwd", "group"]
# As the kubelet writes them.
KUBELETS_FILES = {
    "hosts": "127.0.0.1 localhost\n",
    "resolv.conf": "search default.svc.cluster.local svc.cluster.local cluster.local\n"
    "nameserver 10.77.0.1\n"
    "options ndots:5\n",
}
NEW_NETWORK = 0x40000000

LITELLM = ROOT / "target/python/litellm-1.81.4/bin/litellm"
SEARXNG = ROOT / "target/npm-litellm/node_modules/mcp-searxng-1.0.1/dist/index.js"
# By the container's name: what its image starts, and the line that this writes once it serves.
IMAGES = {
    "envoy": ([ENVOY], "starting workers"),
    "litellm": ([LITELLM], "Uvicorn running on"),
    "mcp-searxng": (["node", SEARXNG], "HTTP server listening"),
    "copy-module": ([], None),
}

numbers = itertools.count()


def lacking():
    """Why no pods can be had here; None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux, and root: it makes network namespaces"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)} (Debian: iproute2, util-linux)"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, timeout=10)
    return None if tried.returncode == 0 else f"can't make network namespaces here: {tried.stderr.strip()}"


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, timeout=10)


class Network:
    """Network namespaces on one bridge, which is in the first of them, as are a Service's name and address.

    None of them reaches this machine.
    """

    def __init__(self, *names, service="mcp-searxng"):
        self.names = [f"mcpsf-{os.getpid()}-{next(numbers)}-{name}" for name in names]
        self.service = service

    def __enter__(self):
        with contextlib.ExitStack() as made:
            for name in self.names:
                ip("netns", "add", name)
                made.callback(ip, "netns", "del", name)
                ip("-n", name, "link", "set", "lo", "up")
            nodes = [made.enter_context(Node(name, f"10.77.0.{number}")) for number, name in enumerate(self.names, 1)]
            ip("-n", self.names[0], "link", "add", "bridge", "type", "bridge")
            ip("-n", self.names[0], "link", "set", "bridge", "up")
            ip("-n", self.names[0], "addr", "add", f"{nodes[0].address}/24", "dev", "bridge")
            for node in nodes[1:]:
                end = f"to-{node.address.rpartition('.')[2]}"
                ip("-n", self.names[0], "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", node.name)
                ip("-n", self.names[0], "link", "set", end, "master", "bridge", "up")
                ip("-n", node.name, "link", "set", "eth0", "up")
                ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", "eth0")
            entry = [f"{self.service}.default.svc.cluster.local", nodes[0].address]
            names = nodes[0].start(sys.executable, ROOT / "tests/e2e/dns_server.py", nodes[0].address, *entry)
            made.enter_context(names).out.wait_for("answering")
            self._made = made.pop_all()
        return nodes

    def __exit__(self, *failure):
        return self._made.__exit__(*failure)


class Node:
    """One network namespace, its address, and threads of this process that are in it."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self._inside = ThreadPoolExecutor(8, initializer=self._enter)

    def _enter(self):
        with open(f"/run/netns/{self.name}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), NEW_NETWORK) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def run(self, function, *arguments, **options):
        return self._inside.submit(function, *arguments, **options).result(120)

    def ask(self, host, port, path, method="GET", headers=None, message=None):
        """A request from here; status 0 if nobody answers."""
        return self.run(ask, port, method, path, headers or {}, message, host=host)

    def start(self, *command):
        return Process("nsenter", f"--net=/run/netns/{self.name}", *command)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._inside.shutdown()


class Pod:
    """The pod of a Deployment at this node; leaving the `with` block ends it as the kubelet would.

    `change` may change the text of a file of a ConfigMap, by its name.
    """

    def __init__(self, node, objects, deployment, secrets=None, change=lambda name, text: text):
        self.node, self.spec, self.objects = node, pod_spec(objects, deployment), objects
        self.secrets, self.change = secrets or {}, change
        self.containers = {}

    def __enter__(self):
        with contextlib.ExitStack() as starting:
            self._folder = Path(starting.enter_context(tempfile.TemporaryDirectory()))
            self._folder.chmod(0o755)
            for volume in self.spec.get("volumes", []):
                self._lay_out(volume)
            # In their order; what started first ends last.
            for one in all_containers(self.spec):
                self.containers[one["name"]] = started = starting.enter_context(self._start(one))
                if one in self.spec.get("initContainers", []) and one.get("restartPolicy") != "Always":
                    assert started.wait(60) == 0, started.err.lines
            self._running = starting.pop_all()
        return self

    def __exit__(self, *failure):
        return self._running.__exit__(*failure)

    def __getitem__(self, name):
        return self.containers[name]

    def start_again(self, name):
        """The kubelet does that with a container that has ended."""
        self.containers[name].kill()
        self.containers[name] = self._running.enter_context(self._start(container(self.spec, name)))

    def ask_probes(self, node):
        """The status of each probe, asked from another node as the kubelet asks."""
        return {
            (one["name"], probe): self._ask_probe(node, one, one[probe]["httpGet"])
            for one in all_containers(self.spec)
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            if probe in one
        }

    def _ask_probe(self, node, one, place):
        [port] = [port["containerPort"] for port in one["ports"] if port["name"] == place["port"]]
        return node.ask(self.node.address, port, place["path"]).status

    def _lay_out(self, volume):
        folder = self._folder / volume["name"]
        folder.mkdir()
        if "configMap" in volume:
            for name, text in config_files(self.objects, self.spec, volume["name"]).items():
                (folder / name).write_text(self.change(name, text))
        elif "image" in volume:
            shutil.copyfile(MODULE, folder / "plugin.wasm")
        else:
            folder.chmod(0o777)

    def _start(self, one):
        program, ready = IMAGES[one["name"]]
        command = [*one.get("command", program), *one.get("args", [])]
        script = self._folder / f"{one['name']}.sh"
        script.write_text("\n".join([*self._root(one), self._command(one, command)]))
        process = self.node.start("unshare", "--mount", "--propagation", "private", "sh", "-e", script)
        try:
            if ready:
                (process.out if program[0] == "node" else process.err).wait_for(ready, timeout=300)
        except RuntimeError:
            process.kill()
            raise
        return process

    def _root(self, one):
        """The lines of a script that put together what the container sees."""
        root = self._folder / f"{one['name']}-root"
        root.mkdir(exist_ok=True)
        yield f"mount -t tmpfs -o mode=755 tmpfs {root}"
        for place in SYSTEM:
            if os.path.islink(place):
                yield f"cp -d {place} {root}{place}"
            elif os.path.exists(place):
                yield bind(place, root, "--rbind")
        for place in sorted(PROGRAMS):
            if not place.startswith("/usr"):
                yield bind(place, root)
                yield f"mount -o remount,bind,ro {root}{place}"
        if one["name"] == "copy-module":
            yield f"cp {MODULE} {root}/plugin.wasm"
        yield f"mkdir -p {root}/etc {root}/run"
        yield f"cp {' '.join(f'/etc/{name}' for name in FROM_ETC)} {root}/etc"
        for name, text in KUBELETS_FILES.items():
            yield f"printf %s {shlex.quote(text)} > {root}/etc/{name}"
        for mount in one.get("volumeMounts", []):
            place = f"{root}{mount['mountPath']}"
            yield f"mkdir -p {place}; mount --bind {self._folder / mount['name']} {place}"
            if mount.get("readOnly"):
                yield f"mount -o remount,bind,ro {place}"
        if one["securityContext"]["readOnlyRootFilesystem"]:
            yield f"mount -o remount,bind,ro {root}"

    def _command(self, one, command):
        context = one["securityContext"]
        rights = [f"--reuid={context['runAsUser']}", f"--regid={context['runAsGroup']}", "--clear-groups"]
        if context["capabilities"]["drop"] == ["ALL"]:
            rights += ["--bounding-set=-all", "--inh-caps=-all"]
        if not context["allowPrivilegeEscalation"]:
            rights.append("--no-new-privs")
        environment = [f"{name}={value}" for name, value in self._environment(one)]
        path = f"PATH={os.path.dirname(shutil.which('node'))}:/usr/bin:/bin"
        root = self._folder / f"{one['name']}-root"
        words = ["chroot", root, "setpriv", *rights, "env", "-i", path, *environment, *command]
        return "exec " + " ".join(shlex.quote(str(word)) for word in words)

    def _environment(self, one):
        for entry in one.get("env", []):
            if "value" in entry:
                yield entry["name"], entry["value"]
                continue
            secret = entry["valueFrom"]["secretKeyRef"]
            if secret["key"] in self.secrets:
                yield entry["name"], self.secrets[secret["key"]]
            elif not secret.get("optional"):
                raise RuntimeError(f"the manifest needs a secret {secret['name']}, key {secret['key']}")


def bind(place, root, how="--bind"):
    return f"mkdir -p {root}{place}; mount {how} {place} {root}{place}"
