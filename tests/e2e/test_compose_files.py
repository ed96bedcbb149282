"""The compose files and what they name, without Docker: nothing is mounted that isn't there, nothing published to the world."""

import copy
import re

import pytest
import yaml
from composed import DEMO
from litellm_scene import LITELLM, SEARXNG
from packaging.requirements import Requirement
from processes import ROOT
from real_envoy import CONFIG_FILE, MODULE
from test_config import validate

COMPOSE_FILES = {name: yaml.safe_load((DEMO / name).read_text()) for name in ["compose.yaml", "compose.litellm.yaml"]}
ENVOY_FILES = ["envoy.yaml", "envoy.litellm.yaml"]
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
ENVOY_MODULE = "/etc/envoy/mcp_session_filter.wasm"


def faults(tree):
    """What is wrong with a compose file that lies in DEMO, one line for each thing."""
    return [f"{name}: {fault}" for name, service in tree["services"].items() for fault in service_faults(service)]


def service_faults(service):
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            yield f"{port} is published to more than this machine"
    for volume in service.get("volumes", []):
        source = DEMO / DEFAULT.sub(r"\1", volume["source"])
        if not source.is_file():
            yield f"{source} is not there"
        if volume["type"] != "bind" or volume["bind"] != {"create_host_path": False} or not volume["read_only"]:
            yield f"{source} may be made up or changed"
    if not (service["read_only"] and service["cap_drop"] == ["ALL"]):
        yield "has more rights than it needs"
    if service["security_opt"] != ["no-new-privileges:true"]:
        yield "may get more rights"
    dockerfile = (DEMO / service["build"] / "Dockerfile").read_text() if "build" in service else ""
    image, user = service.get("image"), service.get("user")
    if dockerfile:
        image, user = (re.findall(rf"^{word} (.*)$", dockerfile, re.M)[-1] for word in ["FROM", "USER"])
    if not re.search(r":v?\d+\.?\d*-", image):
        yield f"{image} names no version"
    if not user or user.startswith("0") or user == "root":
        yield "runs as root"


def parametrize_files(names):
    return pytest.mark.parametrize("name", names)


@parametrize_files(COMPOSE_FILES)
def test_a_compose_file_has_no_faults(name):
    assert faults(COMPOSE_FILES[name]) == []


def published_to_all(services):
    services["envoy"]["ports"][0] = "10000:10000"


def mounted_from_nowhere(services):
    services["client"]["volumes"][0]["source"] = "none.py"


def mounted_for_writing(services):
    services["envoy"]["volumes"][0]["read_only"] = False


def mounted_as_docker_likes(services):
    services["envoy"]["volumes"][1]["bind"] = {"create_host_path": True}


def run_by_root(services):
    services["client"]["user"] = "0:0"


def of_no_version(services):
    services["client"]["image"] = "python:latest"


def with_all_rights(services):
    services["server"]["cap_drop"] = []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (published_to_all, "envoy: 10000:10000 is published"),
        (mounted_from_nowhere, "none.py is not there"),
        (mounted_for_writing, "envoy.yaml may be made up or changed"),
        (mounted_as_docker_likes, "mcp_session_filter.wasm may be made up or changed"),
        (run_by_root, "client: runs as root"),
        (of_no_version, "client: python:latest names no version"),
        (with_all_rights, "server: has more rights"),
    ],
)
def test_each_fault_is_found(spoil, fault):
    tree = copy.deepcopy(COMPOSE_FILES["compose.yaml"])
    spoil(tree["services"])
    [found] = faults(tree)
    assert fault in found


def test_envoy_runs_alike_in_both_compose_files():
    ours, theirs = (copy.deepcopy(tree["services"]["envoy"]) for tree in COMPOSE_FILES.values())
    for service in (ours, theirs):
        del service["depends_on"], service["volumes"][0]["source"]
    assert ours == theirs


def config(name):
    return yaml.safe_load((DEMO / name).read_text())


def plugin(tree):
    return connection_manager(tree)["http_filters"][0]["typed_config"]["config"]


def connection_manager(tree):
    return tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def write_with_module_here(name, folder):
    text = (DEMO / name).read_text()
    assert text.count(ENVOY_MODULE) == 1
    path = folder / name
    path.write_text(text.replace(ENVOY_MODULE, str(MODULE)))
    return path


@parametrize_files(ENVOY_FILES)
def test_envoy_takes_its_configuration(name, tmp_path):
    verdict = validate(write_with_module_here(name, tmp_path))
    assert verdict.returncode == 0, verdict.stderr


@parametrize_files(ENVOY_FILES)
def test_envoy_refuses_a_configuration_without_its_module(name):
    verdict = validate(DEMO / name)
    assert verdict.returncode != 0
    assert ENVOY_MODULE in verdict.stderr


@parametrize_files(ENVOY_FILES)
def test_who_rules_envoy_is_on_its_own_loopback(name):
    assert config(name)["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_a_container_has_the_settings_of_envoy_yaml():
    ours, theirs = connection_manager(config("envoy.yaml")), connection_manager(yaml.safe_load(CONFIG_FILE.read_text()))
    ours["http_filters"][0]["typed_config"]["config"]["vm_config"]["code"] = None
    theirs["http_filters"][0]["typed_config"]["config"]["vm_config"]["code"] = None
    del ours["access_log"], theirs["access_log"]
    # For metrics alone.
    del theirs["route_config"]["virtual_hosts"][0]["virtual_clusters"]
    assert ours == theirs


def test_litellm_has_the_same_envoy_but_for_the_filters_settings_and_the_server():
    ours, theirs = config("envoy.litellm.yaml"), config("envoy.yaml")
    for tree in (ours, theirs):
        del plugin(tree)["configuration"], tree["static_resources"]["clusters"][0]["load_assignment"]
    # The route that switches the filter off.
    connection_manager(theirs)["route_config"]["virtual_hosts"][0]["routes"].pop(0)
    assert ours == theirs


# For the Python of the images.
CONDITIONS = {"python_version": "3.13", "python_full_version": "3.13.0"}


def packages(path):
    """Name and version of all that these requirements install in the images."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    wanted = map(Requirement, lines)
    return {entry.name: str(entry.specifier) for entry in wanted if not entry.marker or entry.marker.evaluate(CONDITIONS)}


@pytest.mark.parametrize(("image", "tested"), [("litellm", f"litellm-{LITELLM}"), ("server", "mcp-2")])
def test_an_image_has_the_packages_that_the_other_tests_run_with(image, tested):
    assert packages(DEMO / image / "requirements.txt") == packages(ROOT / f"tests/e2e/requirements/{tested}.txt")


def test_the_server_behind_litellm_is_the_one_that_the_other_tests_run_with():
    package = yaml.safe_load((DEMO / "searxng/package.json").read_text())
    assert [f"{name}-{version}" for name, version in package["dependencies"].items()] == [SEARXNG]
