"""The image through a real registry: pushed by make, pulled as Istio and Envoy Gateway do it, and run in Envoy."""

import os
import subprocess

import image_reader
import pytest
from image_reader import Refused
from make_image import Image
from oci_layout import INDEX, Layout, add_image, digest, gzip_layer, tar, to_json
from processes import ROOT
from project_facts import find_facts
from real_envoy import MODULE, EnvoyConfig, RealEnvoy
from registry import PLAIN, Registry, missing
from silent_client import SilentClient

pytestmark = pytest.mark.registry

REPOSITORY = "team/mcp-session-filter"
TAR = "application/vnd.oci.image.layer.v1.tar"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
WASM_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    if names := missing():
        pytest.skip(f"{' and '.join(names)} not installed: apt-get install {' '.join(names)}")
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def pushed(registry):
    """The image, pushed by make's own target."""
    target = f"127.0.0.1:{registry.port}/{REPOSITORY}"
    command = ["make", "push-image", f"IMAGE={target}", f"PUSH_OPTIONS={PLAIN}"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "MAKEFLAGS": ""}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return Image(MODULE.read_bytes(), find_facts())


@pytest.mark.parametrize("by_digest", [False, True], ids=["by-tag", "by-digest"])
def test_the_module_comes_out_as_it_went_in(registry, pushed, by_digest):
    module = image_reader.pull(registry.port, REPOSITORY, pushed.digest if by_digest else pushed.tag)
    assert module == MODULE.read_bytes()


def test_the_image_is_known_by_the_digest_of_its_manifest(registry, pushed):
    assert image_reader.pull(registry.port, REPOSITORY, pushed.tag, pushed.digest)


def test_the_image_is_not_known_by_the_hash_of_the_module(registry, pushed):
    with pytest.raises(Refused, match="another checksum"):
        image_reader.pull(registry.port, REPOSITORY, pushed.tag, pushed.module_digest)


def test_what_was_pulled_repairs_requests_in_envoy(registry, pushed, real_server, tmp_path):
    (tmp_path / "pulled.wasm").write_bytes(image_reader.pull(registry.port, REPOSITORY, pushed.digest))
    config = EnvoyConfig(real_server.port)
    config.plugin["vm_config"]["code"]["local"]["filename"] = str(tmp_path / "pulled.wasm")
    with RealEnvoy(config) as envoy:
        client = SilentClient(envoy.port)
        client.initialize()
        client.initialized()
        called = client.call_echo("hello")
        assert called.result["content"][0]["text"] == "Echo: hello"
        assert envoy.outcome(called) == "repaired"


def test_an_unknown_tag_and_an_unknown_digest_are_refused(registry, pushed):
    for reference in ("9.9.9", f"sha256:{'0' * 64}"):
        with pytest.raises(Refused, match="answered 404"):
            image_reader.pull(registry.port, REPOSITORY, reference)


def plugin(content=None):
    return {"plugin.wasm": MODULE.read_bytes() if content is None else content}


def stored(media_type, files):
    """A layer that is not compressed, whatever it says."""
    archive = tar(files)
    return media_type, archive, digest(archive)


def bare():
    return WASM_LAYER, MODULE.read_bytes(), digest(MODULE.read_bytes())


TAKEN = {
    "the module in a folder": [gzip_layer({"filters/plugin.wasm": MODULE.read_bytes()})],
    "the module in the last of two layers": [gzip_layer({"README": b"read me"}), gzip_layer(plugin())],
    "the bare module in one of two layers": [bare(), gzip_layer({"README": b"read me"})],
}
WRONG = {
    "a layer that is not compressed": [stored(TAR, plugin())],
    "a layer that only says that it is compressed": [stored(gzip_layer({})[0], plugin())],
    "a layer that says zstd": [(ZSTD, *gzip_layer(plugin())[1:])],
    "no plugin.wasm": [gzip_layer({"mcp_session_filter.wasm": MODULE.read_bytes()})],
    "plugin.wasm in the first of two layers": [gzip_layer(plugin()), gzip_layer({"README": b"read me"})],
    "the bare module alone": [bare()],
    "a module that is none": [gzip_layer(plugin(b"#!/bin/sh\n"))],
    "an empty module": [gzip_layer(plugin(b""))],
}


def push_image(registry, folder, layers):
    layout = Layout()
    manifest = add_image(layout, layers)
    layout.name(manifest, "trial")
    layout.write(folder)
    registry.push(folder, "team/trial", "trial")
    return manifest["digest"]


@pytest.mark.parametrize("layers", TAKEN.values(), ids=TAKEN)
def test_other_forms_that_are_known_are_taken(registry, tmp_path, layers):
    pushed = push_image(registry, tmp_path / "image", layers)
    assert image_reader.pull(registry.port, "team/trial", pushed) == MODULE.read_bytes()


@pytest.mark.parametrize("layers", WRONG.values(), ids=WRONG)
def test_a_wrong_image_is_refused(registry, tmp_path, layers):
    pushed = push_image(registry, tmp_path / "image", layers)
    with pytest.raises(Refused):
        image_reader.pull(registry.port, "team/trial", pushed)


@pytest.fixture
def index(registry, tmp_path):
    """An image in an index, pushed: the digests of the index and of the image."""
    layout = Layout()
    manifest = add_image(layout, [gzip_layer(plugin())])
    child = {**manifest, "platform": {"os": "linux", "architecture": "amd64"}}
    index = layout.add(INDEX, to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}))
    layout.name(index, "trial")
    layout.write(tmp_path / "image")
    registry.push(tmp_path / "image", "team/index", "trial")
    return index["digest"], manifest["digest"]


def test_an_index_is_known_by_the_digest_of_the_image_in_it(registry, index):
    _, inner = index
    assert image_reader.pull(registry.port, "team/index", "trial", inner) == MODULE.read_bytes()


def test_an_index_is_not_known_by_its_own_digest(registry, index):
    outer, _ = index
    with pytest.raises(Refused, match="another checksum"):
        image_reader.pull(registry.port, "team/index", "trial", outer)
