"""What Envoy's container sees of the module and the configuration: they must be there, and its user must be able to read them."""

import os
import shutil

import pytest
from composed import DEMO, Composed
from docker_engine import FOLDER, remove
from real_envoy import MODULE

pytestmark = pytest.mark.docker


@pytest.fixture
def folder():
    """A folder for one test that the engine sees, too: it knows no other place than the project."""
    path = FOLDER / "test"
    remove(path)
    path.mkdir()
    yield path
    remove(path)


def test_a_module_that_is_not_there_is_named_and_nothing_starts(docker_engine, folder):
    with Composed(docker_engine) as composed:
        failed = composed.compose("up", "--detach", env={"MCP_SESSION_FILTER": folder / "none.wasm"})
        assert failed.returncode != 0
        assert f"bind source path does not exist: {folder}/none.wasm" in failed.stderr
        assert composed.running() == []
    assert not (folder / "none.wasm").exists()


@pytest.mark.parametrize(("umask", "says"), [(0o022, None), (0o077, "unable to read file: /etc/envoy/envoy.yaml")])
def test_envoy_starts_in_a_checkout_that_others_may_read(docker_engine, folder, umask, says):
    before = os.umask(umask)
    try:
        shutil.copytree(DEMO, folder / "envoy/compose", copy_function=shutil.copyfile)
        (folder / "target").mkdir()
        shutil.copyfile(MODULE, folder / "target" / MODULE.name)
    finally:
        os.umask(before)
    with Composed(docker_engine, folder=folder / "envoy/compose") as composed:
        started = composed.compose("up", "--detach", "--wait", "envoy")
        assert (started.returncode == 0) == (says is None), started.stderr
        assert (says or "") in composed.log("envoy")


def test_envoy_does_not_start_if_its_user_may_not_read_the_module(docker_engine, folder):
    module = shutil.copy(MODULE, folder)
    os.chmod(module, 0o600)
    with Composed(docker_engine) as composed:
        failed = composed.compose("up", "--detach", "--wait", "envoy", env={"MCP_SESSION_FILTER": module})
        assert failed.returncode != 0
        assert "unable to read file: /etc/envoy/mcp_session_filter.wasm" in composed.log("envoy")
        assert "exited (1)" in failed.stderr


def test_the_stand_in_for_envoys_image_gives_up_root_by_itself(docker_engine):
    said = docker_engine.succeed("docker", "run", "--rm", "envoyproxy/envoy:v1.40-latest", "id", "-u")
    assert said == "101\n"
