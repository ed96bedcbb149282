"""Kubernetes manifests as kubectl puts them together, and where things are in them."""

import copy
import functools
import subprocess
import tempfile
from pathlib import Path

import yaml
from mcp_servers import python_with
from processes import ROOT

FOLDER = ROOT / "envoy/kubernetes"
TOOLS = python_with("kubernetes").parent


def render(*folders, components=()):
    """The objects that `kubectl apply -k` would send for these folders, with components of ours switched on."""
    return copy.deepcopy(_rendered(folders, tuple(components)))


@functools.cache
def _rendered(folders, components):
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as together:
        up = Path("../..")
        tree = {
            "resources": [str(up / path.relative_to(ROOT)) for path in map(FOLDER.joinpath, folders)],
            "components": [str(up / path.relative_to(ROOT)) for path in map(FOLDER.joinpath, components)],
        }
        (Path(together) / "kustomization.yaml").write_text(yaml.safe_dump(tree))
        return list(yaml.safe_load_all(kustomize(together)))


def kustomize(folder):
    built = subprocess.run([TOOLS / "kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    return built.stdout


def refused_by_schema(objects, folder, *versions):
    """What the schemas of these versions of Kubernetes say against the objects: nothing, if all is well."""
    path = Path(folder) / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    wanted = [word for version in versions for word in ("--kubernetes-version", version)]
    command = [TOOLS / "kubernetes-validate", "--strict", *wanted, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines() + done.stderr.splitlines()
    passed = [line for line in lines if line.startswith("INFO ") and " passed for resource " in line]
    # A kind that it does not know is only a warning to it.
    refused = [line for line in lines if line not in passed]
    assert refused or (done.returncode == 0 and len(passed) == len(objects) * len(versions)), done.stdout + done.stderr
    return refused


def find(objects, kind, name=None):
    [found] = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def pod_spec(objects, name):
    return find(objects, "Deployment", name)["spec"]["template"]["spec"]


def all_containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def container(spec, name):
    [found] = [one for one in all_containers(spec) if one["name"] == name]
    return found


def config_files(objects, spec, volume):
    """The files of a volume that is a ConfigMap, by name."""
    [source] = [one["configMap"]["name"] for one in spec["volumes"] if one["name"] == volume]
    return find(objects, "ConfigMap", source)["data"]


def file_at(objects, spec, of, path):
    """The text of a file as this container sees it."""
    path = Path(path)
    [mount] = [one for one in of["volumeMounts"] if one["mountPath"] == str(path.parent)]
    return config_files(objects, spec, mount["name"])[path.name]


def option(of, name):
    """What follows this option in a container's arguments."""
    return of["args"][of["args"].index(name) + 1]


def envoy_config(objects, deployment):
    """What Envoy in this Deployment reads."""
    spec = pod_spec(objects, deployment)
    envoy = container(spec, "envoy")
    return yaml.safe_load(file_at(objects, spec, envoy, option(envoy, "--config-path")))


def listening(config):
    """Address and port of each listener of an Envoy, by name."""
    places = {one["name"]: one["address"]["socket_address"] for one in config["static_resources"]["listeners"]}
    return {name: (place["address"], place["port_value"]) for name, place in places.items()}


def plugin(config):
    """The session filter's part of an Envoy's configuration."""
    [manager] = [
        one["filter_chains"][0]["filters"][0]["typed_config"]
        for one in config["static_resources"]["listeners"]
        if one["name"] == "mcp"
    ]
    [found] = [one for one in manager["http_filters"] if one["name"] == "mcp_session_filter"]
    return found["typed_config"]["config"]


def changed(objects, change):
    """A copy in which `change` has changed something."""
    objects = copy.deepcopy(objects)
    change(objects)
    return objects
