"""How Istio and Envoy Gateway get a module out of a registry, as far as it makes them take an image or refuse it.

Told after reading pkg/wasm of istio/istio and internal/wasm of envoyproxy/gateway as they were in August 2026, and the
library that both fetch by, google/go-containerregistry. Credentials and caches are left out.
"""

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import tarfile
import zlib
from pathlib import PurePosixPath

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
WASM_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"
INDEXES = ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"]


class Refused(Exception):
    pass


def pull(port, repository, reference, checksum=None):
    """The module in an image; the reference is a tag or a digest, the checksum what a user compares the image with."""
    media_type, body = fetch_manifest(port, repository, reference)
    if media_type in INDEXES:
        body = fetch_manifest(port, repository, child_for_amd64(json.loads(body)))[1]
    # Of an index, it is the image that was chosen in it.
    if checksum not in (None, digest(body)):
        raise Refused("the image has another checksum")
    manifest = json.loads(body)
    module = find_module(manifest, lambda layer: fetch_blob(port, repository, layer))
    if len(module) < 8 or not module.startswith(b"\0asm"):
        raise Refused("the module is no wasm")
    return module


def fetch_manifest(port, repository, reference):
    accept = ", ".join([OCI_MANIFEST, DOCKER_MANIFEST, *INDEXES])
    answer, body = get(port, f"/v2/{repository}/manifests/{reference}", accept)
    if reference.startswith("sha256:") and digest(body) != reference:
        raise Refused("the registry sent another manifest")
    return answer.getheader("content-type"), body


def child_for_amd64(index):
    """Whatever machine it is, and a child without a platform counts as one."""
    for child in index["manifests"]:
        platform = child.get("platform", {"os": "linux", "architecture": "amd64"})
        if (platform["os"], platform["architecture"]) == ("linux", "amd64"):
            return child["digest"]
    raise Refused("no image for linux/amd64")


def find_module(manifest, fetch):
    layers = manifest["layers"]
    if not layers:
        raise Refused("no layers")
    is_docker = manifest.get("mediaType") == DOCKER_MANIFEST
    if layers[-1]["mediaType"] == (DOCKER_LAYER if is_docker else OCI_LAYER):
        with contextlib.suppress(Refused):
            return unpack(fetch(layers[-1]))
    # The other form that they know: two layers, one of them the bare module.
    if len(layers) == 2 and not is_docker:
        for layer in layers:
            if layer["mediaType"] == WASM_LAYER:
                return fetch(layer)
    raise Refused("the image is in no form that is known")


def unpack(layer):
    """Only the last layer is looked at. In it, the folder does not matter."""
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as archive:
            for entry in archive:
                if PurePosixPath(entry.name).name == "plugin.wasm":
                    return archive.extractfile(entry).read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as failure:
        raise Refused(f"the layer can't be unpacked: {failure}") from None
    raise Refused("plugin.wasm is not in the layer")


def fetch_blob(port, repository, descriptor):
    _, body = get(port, f"/v2/{repository}/blobs/{descriptor['digest']}")
    if (digest(body), len(body)) != (descriptor["digest"], descriptor["size"]):
        raise Refused("the registry sent another layer")
    return body


def get(port, path, accept="*/*"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"accept": accept})
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise Refused(f"the registry answered {answer.status}")
    return answer, body


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
