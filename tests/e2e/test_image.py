"""The image of `make image`: the same bytes everywhere, and in it nothing but the module and what is known of it."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from processes import ROOT
from project_copy import CARGO_TOML, COMMITTED, ProjectCopy, files_of
from real_envoy import MODULE

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Read:
    """What a layout says, by its files alone."""

    def __init__(self, folder):
        self.files = files_of(folder)
        self.index = json.loads(self.files["index.json"])
        self.manifest = json.loads(self.blob(self.index["manifests"][0]))
        self.config = json.loads(self.blob(self.manifest["config"]))
        self.layer = self.blob(self.manifest["layers"][0])

    def blob(self, descriptor):
        return self.files[f"blobs/{descriptor['digest'].replace(':', '/')}"]

    def descriptors(self):
        return [*self.index["manifests"], self.manifest["config"], *self.manifest["layers"]]

    def annotation(self, name):
        return self.manifest["annotations"].get(f"org.opencontainers.image.{name}")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def project(tmp_path):
    return ProjectCopy(tmp_path / "project")


def build(project, module=MODULE, **env):
    built = project.run("make_image.py", module, project.folder / "target/image", **env)
    assert built.returncode == 0, built.stderr
    return built.stdout


def image(project, **env):
    build(project, **env)
    return Read(project.folder / "target/image")


def refused(project, **env):
    built = project.run("make_image.py", MODULE, project.folder / "target/image", **env)
    assert built.returncode == 1
    assert not (project.folder / "target/image").exists()
    return built.stderr


def test_two_folders_make_the_same_bytes(tmp_path):
    folders = [tmp_path / "here", tmp_path / "a/longer path/there"]
    here, there = (image(ProjectCopy(folder), PYTHONHASHSEED=str(seed)) for seed, folder in enumerate(folders))
    assert here.files == there.files


def test_the_module_names_no_folder_of_this_machine():
    module = MODULE.read_bytes()
    # Panics name their places in crates, and all of them in this form.
    assert b"/crates/" in module
    homes = [Path.home(), os.environ.get("CARGO_HOME"), os.environ.get("RUSTUP_HOME"), ROOT]
    assert [home for home in homes if home and f"{home}/".encode() in module] == []


def test_another_module_makes_another_image(project, tmp_path):
    first = image(project)
    (tmp_path / "module.wasm").write_bytes(MODULE.read_bytes() + b"\0")
    build(project, tmp_path / "module.wasm")
    second = Read(project.folder / "target/image")
    assert first.index["manifests"][0]["digest"] != second.index["manifests"][0]["digest"]
    # Nothing is left of the first one.
    assert len(second.files) == len(first.files)


def test_every_blob_has_the_name_and_size_by_which_it_is_known(project):
    read = image(project)
    descriptors = read.descriptors()
    for descriptor in descriptors:
        assert descriptor["digest"] == f"sha256:{sha256(read.blob(descriptor))}"
        assert descriptor["size"] == len(read.blob(descriptor))
    assert set(read.files) == {
        "oci-layout", "index.json", *(f"blobs/{each['digest'].replace(':', '/')}" for each in descriptors)
    }  # fmt: skip


def test_what_the_specification_requires_is_there(project):
    read = image(project)
    assert json.loads(read.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert read.index["schemaVersion"] == read.manifest["schemaVersion"] == 2
    assert read.index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    [named] = read.index["manifests"]
    assert named["mediaType"] == read.manifest["mediaType"] == MANIFEST
    assert named["annotations"] == {"org.opencontainers.image.ref.name": "0.2.0"}
    assert read.manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert [layer["mediaType"] for layer in read.manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+gzip"]
    assert (read.config["os"], read.config["architecture"]) == ("linux", "amd64")
    assert read.config["rootfs"]["type"] == "layers"


def test_the_layer_holds_the_module_and_nothing_of_the_machine(project):
    layer = image(project).layer
    # No flags, so neither a name nor a comment; no time; no operating system.
    assert layer[:4] == b"\x1f\x8b\x08\x00" and layer[4:8] == bytes(4) and layer[9] == 255
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as archive:
        [entry] = archive.getmembers()
        assert (entry.name, entry.type, entry.mode) == ("plugin.wasm", tarfile.REGTYPE, 0o644)
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
        assert archive.extractfile(entry).read() == MODULE.read_bytes()


def test_the_configuration_names_the_unpacked_layer(project):
    read = image(project)
    assert read.config["rootfs"]["diff_ids"] == [f"sha256:{sha256(gzip.decompress(read.layer))}"]


def test_both_printed_hashes_are_true(project):
    said = build(project)
    printed = dict(re.findall(r"^ +(\w+) +sha256:([0-9a-f]{64})", said, re.MULTILINE))
    manifest = Read(project.folder / "target/image").index["manifests"][0]["digest"]
    assert printed == {"image": manifest.removeprefix("sha256:"), "module": sha256(MODULE.read_bytes())}


def test_labels_and_annotations_say_what_is_known(project):
    read = image(project, SOURCE_URL="https://git.example.com/team/a-filter")
    assert read.manifest["annotations"] == read.config["config"]["Labels"]
    assert read.manifest["annotations"] == {
        "org.opencontainers.image.title": "a-filter",
        "org.opencontainers.image.description": "It filters",
        "org.opencontainers.image.version": "0.2.0",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": project.git("rev-parse", "HEAD"),
        "org.opencontainers.image.created": COMMITTED,
        "org.opencontainers.image.source": "https://git.example.com/team/a-filter",
        "org.opencontainers.image.documentation": "https://git.example.com/team/a-filter#readme",
    }
    assert read.config["created"] == COMMITTED


def test_the_time_is_what_source_date_epoch_says(project):
    read = image(project, SOURCE_DATE_EPOCH="86400")
    assert read.config["created"] == read.annotation("created") == "1970-01-02T00:00:00Z"


def test_a_time_that_is_no_number_is_refused(project):
    assert "SOURCE_DATE_EPOCH=yesterday: a number of seconds" in refused(project, SOURCE_DATE_EPOCH="yesterday")


@pytest.mark.parametrize("remote", [
    "https://git.example.com/team/a-filter.git",
    "https://somebody:secret@git.example.com/team/a-filter/",
])  # fmt: skip
def test_a_remote_on_the_web_is_the_source_without_its_password(project, remote):
    project.git("remote", "add", "origin", remote)
    read = image(project)
    assert read.annotation("source") == "https://git.example.com/team/a-filter"
    assert not any(b"secret" in content for content in read.files.values())


def test_the_repository_in_cargo_toml_goes_before_the_remote_and_after_source_url(project):
    project.write("Cargo.toml", CARGO_TOML + 'repository = "https://git.example.com/upstream/a-filter"\n')
    project.git("remote", "add", "origin", "https://git.example.com/fork/a-filter")
    assert image(project).annotation("source") == "https://git.example.com/upstream/a-filter"
    given = "https://git.example.com/given/a-filter"
    assert image(project, SOURCE_URL=given).annotation("source") == given


@pytest.mark.parametrize("remote", ["git@git.example.com:team/a-filter.git", "/srv/git/a-filter"])
def test_any_other_remote_is_no_source(project, remote):
    project.git("remote", "add", "origin", remote)
    read = image(project)
    assert read.annotation("source") is None and read.annotation("documentation") is None


def test_a_source_that_is_not_on_the_web_is_refused(project):
    assert "SOURCE_URL: an http:// or https:// address" in refused(project, SOURCE_URL="git@git.example.com:a-filter")


def test_a_changed_tree_is_no_commit(project):
    project.write("src/lib.rs", "// something else\n")
    assert image(project).annotation("revision") == project.git("rev-parse", "HEAD") + "-dirty"


def test_an_unpacked_archive_has_no_commit_and_no_time(project):
    # One that lies inside of another repository, even.
    inner = project.folder / "target/unpacked"
    shutil.copytree(project.folder, inner, ignore=shutil.ignore_patterns(".git", "target"))
    project.folder = inner
    read = image(project)
    assert read.annotation("revision") is None and read.annotation("created") is None
    assert "created" not in read.config


def test_a_folder_with_other_files_is_not_overwritten(project):
    project.write("target/image/letter.txt", "dear reader\n")
    built = project.run("make_image.py", MODULE, project.folder / "target/image")
    assert built.returncode == 1
    assert "it is not overwritten" in built.stderr
    assert files_of(project.folder / "target/image") == {"letter.txt": b"dear reader\n"}
