"""The Kubernetes manifests under envoy/istio and envoy/envoy-gateway, as the tests want them."""

import yaml
from processes import ROOT

FOLDERS = [ROOT / "envoy/istio", ROOT / "envoy/envoy-gateway"]
FILES = sorted(path.relative_to(ROOT / "envoy") for folder in FOLDERS for path in folder.glob("*.yaml"))


def load(name):
    """All manifests of a file, named as under envoy/."""
    return [manifest for manifest in yaml.safe_load_all((ROOT / "envoy" / name).read_text()) if manifest]


def of_kind(kind, *names):
    """The manifests of this kind in these files."""
    return [manifest for name in names for manifest in load(name) if manifest["kind"] == kind]


def only(kind, *names):
    (manifest,) = of_kind(kind, *names)
    return manifest
