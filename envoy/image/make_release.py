"""What a release consists of, in FOLDER: MODULE FOLDER; with --check alone, only whether it may be made.

Before the tag is set as after it, but only from a commit whose changelog tells what is in that version.
"""

import hashlib
import re
import sys
from pathlib import Path

from make_image import Image
from oci_layout import write_files
from project_facts import ROOT, Refusal, changes, find_facts, git, is_in_git, output

CHANGELOG = "CHANGELOG.md"


def check(version):
    """Nothing that a release says of its commit may be untrue."""
    find_notes(version)
    if not is_in_git():
        raise Refusal("not in a git repository: a release names its commit")
    if changed := changes():
        raise Refusal("\n  ".join(["these files are not as in the commit:", *changed]))
    tag = f"v{version}"
    here = git("tag", "--points-at", "HEAD").splitlines()
    if tag in git("tag").splitlines() and tag not in here:
        raise Refusal(f"{tag} is another commit: raise the version in Cargo.toml, or check out {tag}")
    others = [name for name in here if re.match(r"v\d", name) and name != tag]
    if others:
        raise Refusal(f"this commit is {', '.join(others)}, but Cargo.toml says {version}")
    return tag in here


def find_notes(version):
    """The changelog's section on this version, without its heading."""
    text = (ROOT / CHANGELOG).read_text()
    heading = rf"^## \[{re.escape(version)}\].*\n"
    section = re.search(heading + r"((?:(?!## ).*(?:\n|\Z))*)", text, re.MULTILINE)
    if section is None:
        raise Refusal(
            f"{CHANGELOG} has no section on {version}, the version in Cargo.toml:\n"
            f'  rename "## [Unreleased]" to "## [{version}] - YEAR-MONTH-DAY", and put a new "## [Unreleased]" above it'
        )
    notes = section[1].strip()
    if not notes:
        raise Refusal(f"{CHANGELOG}: the section on {version} is empty")
    return notes


def main(module, folder):
    facts = find_facts()
    tagged = check(facts.version)
    content = Path(module).read_bytes()
    image = Image(content, facts)
    release = {
        Path(module).name: content,
        f"{facts.name}-{facts.version}.oci.tar": image.layout.archive(),
    }
    sums = "".join(f"{hashlib.sha256(release[name]).hexdigest()}  {name}\n" for name in sorted(release))
    release["SHA256SUMS"] = sums.encode()
    release["NOTES.md"] = f"{find_notes(facts.version)}\n\n{fingerprints(image, facts)}".encode()
    write_files(Path(folder), release, mark="SHA256SUMS")
    for name in release:
        print(f"    {folder}/{name}")
    if not tagged:
        print(f"    not tagged yet: git tag v{facts.version}")


def fingerprints(image, facts):
    return f"""### How to know it

| where | what | sha256 |
| --- | --- | --- |
| `oci://` | the image's manifest | `{image.digest.removeprefix("sha256:")}` |
| `http://`, `https://` | the module | `{image.module_digest.removeprefix("sha256:")}` |

Built from {facts.revision} with {output("rustc", "--version")}.
"""


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["--check"]:
            check(find_facts().version)
        else:
            main(*sys.argv[1:])
    except (Refusal, OSError) as failure:
        sys.exit(f"no release: {failure}")
