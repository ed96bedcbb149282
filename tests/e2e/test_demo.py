"""The demo does what its readers are told: it ends well only if the filter has repaired."""

import random
import socket
import subprocess
import sys

import pytest
import yaml
from processes import ROOT
from real_envoy import CONFIG_FILE
from scripted_server import FakeMcpServer


def run_demo(config_file):
    command = [sys.executable, ROOT / "envoy/demo.py", "--config", config_file]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture
def config():
    """The configuration on ports that nobody else uses, beside the ones of `make up`."""
    tree = yaml.safe_load(CONFIG_FILE.read_text())
    listener, cluster = tree["static_resources"]["listeners"][0], tree["static_resources"]["clusters"][0]
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    places = [listener["address"], endpoint["address"], tree["admin"]["address"]]
    for place, port in zip(places, free_ports(), strict=False):
        place["socket_address"]["port_value"] = port
    return tree


def free_ports():
    """Below the range that the kernel lends to outgoing connections: one from there may be taken a moment later."""
    for port in random.sample(range(20_000, 32_000), 1000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        yield port


def test_the_demo_shows_a_repair(config, tmp_path):
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
    shown = run_demo(tmp_path / "envoy.yaml")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Repaired" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_demo_fails_if_nothing_is_repaired(config, tmp_path):
    connection_manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = connection_manager["route_config"]["virtual_hosts"][0]["routes"]
    routes[1]["typed_per_filter_config"] = routes[0]["typed_per_filter_config"]
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
    shown = run_demo(tmp_path / "envoy.yaml")
    assert shown.returncode != 0
    assert "Not repaired" in shown.stdout


def test_the_demo_names_a_port_that_is_taken(config, tmp_path):
    with FakeMcpServer() as other:
        config["admin"]["address"]["socket_address"]["port_value"] = other.port
        (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
        shown = run_demo(tmp_path / "envoy.yaml")
    assert shown.returncode != 0
    assert str(other.port) in shown.stderr
    assert "Traceback" not in shown.stderr
