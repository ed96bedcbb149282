"""What the pages promise is there, and what is there is on them: keys with their defaults, counters, tests."""

import json
import re
import subprocess

from processes import ROOT
from real_envoy import EnvoyConfig
from validation import validate

README = (ROOT / "README.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
NAME = re.compile(r"`([a-z0-9_.]+)`")


def source(name):
    return (ROOT / "src" / name).read_text()


def rows(page, heading):
    """The rows of the first table under this heading, each as its cells."""
    section = page[page.index(f"\n{heading}\n") :]
    table = section[section.index("\n| ") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()[2:]]


def documented_defaults():
    """Each key of the configuration, its parts joined by dots, with the default that the README names."""
    return {
        key: json.loads(default.strip("`"))
        for keys, default, *_ in rows(README, "## Configuration")
        for key in NAME.findall(keys)
    }


def nested(flat):
    tree = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        section = tree
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    return tree


def test_every_key_of_the_readme_can_be_set_to_its_default(tmp_path):
    settings = nested({key: value for key, value in documented_defaults().items() if value is not None})
    verdict = validate(EnvoyConfig(1, settings).write(tmp_path))
    assert verdict.returncode == 0, verdict.stderr


def test_every_key_that_is_read_is_in_the_readme():
    reads = r"""(?:\.[a-z_]+\(|\(memory,)\s*"([a-z_]+)","""
    read = set(re.findall(reads, source("config.rs")))
    documented = {part for key in documented_defaults() for part in key.split(".")}
    assert read == documented


def counted():
    outcomes = re.findall(r'=> "([a-z_]+)"', source("outcome.rs"))
    others = re.findall(r'(?:counter\(|Gauge, )"([a-z_]+)"', source("metrics.rs"))
    return set(outcomes), set(others)


def test_every_counter_is_in_the_readme_and_the_other_way_round():
    outcomes, others = counted()
    explained = {name for names, *_ in rows(README, "## Seeing it") for name in NAME.findall(names)}
    above = {name for *_, cell in rows(README, "## What happens to a request") for name in NAME.findall(cell)}
    assert explained | (above & outcomes) == outcomes | others
    assert others <= explained


def test_every_test_that_is_said_to_hold_an_attack_is_there():
    names = {
        name
        for line in SECURITY.splitlines()
        if line.startswith("| ") and line.count(" | ") == 2
        for name in NAME.findall(line.rpartition(" | ")[2])
        if name.count("_") > 2
    }
    files = [*ROOT.glob("src/**/*.rs"), *ROOT.glob("tests/**/*.rs"), *ROOT.glob("tests/e2e/*.py")]
    code = "\n".join(path.read_text() for path in files)
    assert len(names) > 50
    assert not {name for name in names if not re.search(rf"(?:fn|def) (?:test_)?{name}\(", code)}


def shipped_crates():
    """What the module is made of, by the name and version of each crate, with the Rust that it says it needs."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "wasm32-wasip1"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    metadata = json.loads(found.stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    shipped, rest = set(), [metadata["resolve"]["root"]]
    while rest:
        crate = rest.pop()
        if crate not in shipped:
            shipped.add(crate)
            needs = [need for need in nodes[crate]["deps"] if any(kind["kind"] != "dev" for kind in need["dep_kinds"])]
            rest += [need["pkg"] for need in needs]
    return {
        f"{package['name']} {package['version']}": package["rust_version"]
        for package in metadata["packages"]
        if package["id"] in shipped
    }


def test_no_crate_that_is_shipped_needs_a_newer_rust_than_the_readme_says():
    def version(text):
        return [int(part) for part in text.split(".")]

    [promised] = re.findall(r'^rust-version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert f"Rust {promised} or later" in README
    crates = shipped_crates()
    assert f"depends on {len(crates) - 1} crates" in SECURITY
    assert not {name: rust for name, rust in crates.items() if rust and version(rust)[:2] > version(promised)}
