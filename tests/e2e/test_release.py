"""A release is the same everywhere, and none is made from a commit that it would not tell the truth about."""

import hashlib
import io
import re
import tarfile

import pytest
from project_copy import CARGO_TOML, CHANGELOG, ProjectCopy, files_of
from real_envoy import MODULE
from test_image import Read, build

NAMES = {MODULE.name, "a-filter-0.2.0.oci.tar", "NOTES.md", "SHA256SUMS"}


@pytest.fixture
def project(tmp_path):
    return ProjectCopy(tmp_path / "project")


def make(project):
    made = project.run("make_release.py", MODULE, project.folder / "target/release")
    assert made.returncode == 0, made.stderr
    return made.stdout


def release(project):
    make(project)
    return files_of(project.folder / "target/release")


def test_two_folders_make_the_same_release(tmp_path):
    here, there = (release(ProjectCopy(tmp_path / name)) for name in ("here", "a longer/there"))
    assert here == there


def test_a_release_has_these_files_and_no_others(project):
    release(project)
    project.write("target/release/left-over", "")
    assert set(release(project)) == NAMES


def test_the_sums_are_those_of_what_is_published(project):
    made = release(project)
    sums = dict(reversed(line.split("  ")) for line in made["SHA256SUMS"].decode().splitlines())
    published = NAMES - {"NOTES.md", "SHA256SUMS"}
    assert sums == {name: hashlib.sha256(made[name]).hexdigest() for name in published}
    assert made[MODULE.name] == MODULE.read_bytes()


def test_the_archive_is_the_layout_of_the_image(project):
    build(project)
    with tarfile.open(fileobj=io.BytesIO(release(project)["a-filter-0.2.0.oci.tar"])) as archive:
        unpacked = {entry.name: archive.extractfile(entry).read() for entry in archive}
    assert unpacked == files_of(project.folder / "target/image")


def test_the_notes_are_those_of_this_version_and_say_how_to_know_it(project):
    build(project)
    notes = release(project)["NOTES.md"].decode()
    assert notes.startswith("### Added\n\n- A second thing.\n\n### Fixed\n\n- Another thing.\n\n### How to know it\n")
    assert "What comes later" not in notes and "A first thing" not in notes
    manifest = Read(project.folder / "target/image").index["manifests"][0]["digest"].removeprefix("sha256:")
    assert re.findall("[0-9a-f]{64}", notes) == [manifest, hashlib.sha256(MODULE.read_bytes()).hexdigest()]
    assert f"Built from {project.git('rev-parse', 'HEAD')} with rustc " in notes


def test_a_release_is_made_before_its_tag_is_set_and_after(project):
    assert "not tagged yet: git tag v0.2.0" in make(project)
    project.git("tag", "v0.2.0")
    assert "not tagged yet" not in make(project)


def test_a_tag_that_is_no_version_stands_in_nobodys_way(project):
    project.git("tag", "vendored")
    assert make(project)


def raise_version(project):
    project.write("Cargo.toml", CARGO_TOML.replace("0.2.0", "0.3.0"))
    project.commit()


def keep_unreleased(project):
    project.write("CHANGELOG.md", CHANGELOG.replace("## [0.2.0] - 2026-02-03\n", ""))
    project.commit()


def empty_section(project):
    project.write("CHANGELOG.md", "# Changelog\n\n## [0.2.0] - 2026-02-03\n\n## [0.1.0]\n\n- A first thing.\n")
    project.commit()


def edit(project):
    project.write("src/lib.rs", "// something else\n")


def forget_a_file(project):
    project.write("src/forgotten.rs", "")


def tag_another_commit(project):
    project.git("tag", "v0.2.0")
    edit(project)
    project.commit()


def tag_wrongly(project):
    project.git("tag", "v0.2.1")


def leave_git(project):
    (project.folder / ".git").rename(project.folder.parent / "git")


WRONG = [
    (raise_version, 'no section on 0.3.0, the version in Cargo.toml:\n  rename "## [Unreleased]" to "## [0.3.0] - '),
    (keep_unreleased, 'rename "## [Unreleased]" to "## [0.2.0] - '),
    (empty_section, "the section on 0.2.0 is empty"),
    (edit, "not as in the commit:\n   M src/lib.rs"),
    (forget_a_file, "not as in the commit:\n  ?? src/forgotten.rs"),
    (tag_another_commit, "v0.2.0 is another commit: raise the version in Cargo.toml"),
    (tag_wrongly, "this commit is v0.2.1, but Cargo.toml says 0.2.0"),
    (leave_git, "not in a git repository"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG, ids=[change.__name__ for change, _ in WRONG])
def test_a_release_that_would_not_be_true_is_refused(project, change, reason):
    change(project)
    early = project.run("make_release.py", "--check")
    late = project.run("make_release.py", MODULE, project.folder / "target/release")
    for refusal in (early, late):
        assert refusal.returncode == 1
        assert refusal.stderr.startswith("no release: ") and reason in refusal.stderr
    assert not (project.folder / "target/release").exists()
