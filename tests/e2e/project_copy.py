"""A small project in a git repository of its own, with this one's tooling for images and releases."""

import os
import shutil
import subprocess
import sys

from processes import ROOT

CARGO_TOML = """[package]
name = "a-filter"
version = "0.2.0"
edition = "2024"
description = "It filters"
license = "Apache-2.0"
"""
CHANGELOG = """# Changelog

## [Unreleased]

- What comes later.

## [0.2.0] - 2026-02-03

### Added

- A second thing.

### Fixed

- Another thing.

## [0.1.0] - 2026-01-02

- A first thing.
"""
COMMITTED = "2026-02-03T04:05:06Z"
# Nothing of the machine's goes into the commit, nor of the tests' own settings into the image.
IDENTITY = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in [
    ("NAME", "Somebody"), ("EMAIL", "somebody@example.com"), ("DATE", COMMITTED)
]}  # fmt: skip
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "SOURCE_"))}


class ProjectCopy:
    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(ROOT / "envoy/image", folder / "envoy/image", ignore=shutil.ignore_patterns("__pycache__"))
        self.write("Cargo.toml", CARGO_TOML)
        self.write("CHANGELOG.md", CHANGELOG)
        self.write("src/lib.rs", "")
        self.write(".gitignore", "/target/\n__pycache__/\n/Cargo.lock\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def write(self, name, text):
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Change something")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments):
        command = ["git", "-c", "commit.gpgsign=false", "-c", "core.hooksPath=", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env={**CLEAN, **IDENTITY}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def run(self, script, *arguments, **env):
        command = [sys.executable, self.folder / "envoy/image" / script, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env={**CLEAN, **env}, capture_output=True, text=True, timeout=60
        )


def files_of(folder):
    """Bytes by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
