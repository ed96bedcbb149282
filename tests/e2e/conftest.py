"""Where the tests find their helpers, and what they share."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "envoy"), str(ROOT / "envoy/image")]
# So that an assertion in a helper says what it saw.
pytest.register_assert_rewrite(
    *("composed", "exposition", "loopback_server", "parrot", "prometheus"),
    *("promql", "real_envoy", "session_mates", "silent_client"),
)

import docker_engine as engines  # noqa: E402
import mcp_servers  # noqa: E402
from real_envoy import EnvoyConfig, RealEnvoy  # noqa: E402
from scripted_server import FakeMcpServer  # noqa: E402


@pytest.fixture(scope="module", params=mcp_servers.KINDS)
def real_server(request):
    with mcp_servers.start(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def fake_server():
    with FakeMcpServer() as server:
        yield server


@pytest.fixture(scope="module")
def envoy(fake_server):
    """Envoy as envoy/envoy.yaml has it, in front of the fake server."""
    with RealEnvoy(EnvoyConfig(fake_server.port)) as running:
        yield running


@pytest.fixture(scope="session")
def docker_engine():
    if reason := engines.missing():
        pytest.skip(reason)
    with engines.Engine() as running:
        yield running
