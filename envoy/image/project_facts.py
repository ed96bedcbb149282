"""What is known of this project and of the commit that is checked out; what isn't known is None."""

import datetime
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parents[2]


class Refusal(Exception):
    """Why something is not made, for the one who asked for it."""


@dataclass(frozen=True)
class Facts:
    name: str
    version: str
    description: str
    license: str
    revision: str | None
    created: str | None
    source: str | None

    def annotations(self):
        """https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md"""
        known = {
            "title": self.name,
            "description": self.description,
            "version": self.version,
            "licenses": self.license,
            "revision": self.revision,
            "created": self.created,
            "source": self.source,
            "documentation": self.source and f"{self.source}#readme",
        }
        return {f"org.opencontainers.image.{key}": value for key, value in known.items() if value}


def find_facts():
    package = json.loads(output("cargo", "metadata", "--no-deps", "--format-version", "1"))["packages"][0]
    in_git = is_in_git()
    return Facts(
        *(package[key] for key in ("name", "version", "description", "license")),
        revision=find_revision() if in_git else None,
        created=find_time(in_git),
        source=find_source(package["repository"], in_git),
    )


def find_revision():
    return git("rev-parse", "HEAD") + ("-dirty" if changes() else "")


def changes():
    """The files that differ from the commit, those that git does not know included."""
    return git("status", "--porcelain").splitlines()


def find_time(in_git):
    """SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), or the commit's time."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or (git("log", "-1", "--format=%ct") if in_git else None)
    if seconds is None:
        return None
    if not seconds.isdecimal():
        raise Refusal(f"SOURCE_DATE_EPOCH={seconds}: a number of seconds is expected")
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_source(repository, in_git):
    """Where the source can be read: SOURCE_URL, what Cargo.toml says, or the remote `origin` if it is a web address."""
    if given := os.environ.get("SOURCE_URL"):
        if web_address(given) is None:
            raise Refusal("SOURCE_URL: an http:// or https:// address is expected")
        return web_address(given)
    if repository or not in_git:
        return repository
    # Not `remote get-url`: where there is none, that is no failure.
    return web_address(git("config", "--default", "", "--get", "remote.origin.url"))


def web_address(url):
    """The address without a password that may stand in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/").removesuffix(".git"), "", ""))


def is_in_git():
    """Not so in an unpacked archive, even if it lies inside of another repository."""
    return (ROOT / ".git").exists()


def git(*arguments):
    return output("git", *arguments)


def output(*command):
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise Refusal(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as failure:
        raise Refusal(f"{' '.join(command)}: {failure.stderr.strip()}") from None
    # The first column of `git status` may be a space.
    return ended.stdout.rstrip()
