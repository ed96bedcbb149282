"""envoy/monitoring in a real Prometheus that reads real Envoys: panels have data, alerts fire for what they are for."""

import shutil
import subprocess

import monitoring
import pytest
from prometheus import Alertmanager, Prometheus, find
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import FakeMcpServer, error
from silent_client import SilentClient

MISSING = [tool for tool in ("prometheus", "promtool") if not find(tool)]
pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"no {' and no '.join(MISSING)}: install Debian's prometheus, or `apt-get update` and try again",
    ),
]


def promtool(*arguments, folder=monitoring.FOLDER):
    return subprocess.run([find("promtool"), *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yaml"), ("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")],
    ids=" ".join,
)
def test_promtool_is_content(arguments):
    verdict = promtool(*arguments)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


RULES = (monitoring.FOLDER / "alerts.yaml").read_text()
CHANGES = {
    "another threshold": ("hold_unsupported >= 3", "hold_unsupported >= 2"),
    "another share": ("0.1 *", "0.01 *"),
    "no number": ('recover_failed"}[10m]) > 2', 'recover_failed"}[10m]) > 0'),
    "at once": ("for: 5m", "for: 1m"),
    "a filter that is everywhere": ("unless on (job, instance) mcp_session_live", ""),
    "another severity": ("severity: info", "severity: warning"),
    "a shorter window": ("evicted[1h]", "evicted[10m]"),
    "a decrease counts": ("increase(mcp_session_host_error[10m])", "-delta(mcp_session_host_error[10m])"),
}


@pytest.mark.parametrize(("right", "wrong"), CHANGES.values(), ids=CHANGES)
def test_the_tests_of_the_rules_find_what_is_wrong(tmp_path, right, wrong):
    assert right in RULES
    (tmp_path / "alerts.yaml").write_text(RULES.replace(right, wrong))
    shutil.copy(monitoring.FOLDER / "alerts.test.yaml", tmp_path)
    assert promtool("check", "rules", "alerts.yaml", folder=tmp_path).returncode == 0
    verdict = promtool("test", "rules", "alerts.test.yaml", folder=tmp_path)
    assert verdict.returncode != 0


class Scene:
    """Two Envoys in front of one server. The second one does not hold headers and has no stats_config."""

    def __init__(self, server, envoys, alertmanager, prometheus):
        self.server = server
        self.envoys = envoys
        self.alertmanager = alertmanager
        self.prometheus = prometheus

    def values(self, metric):
        return {labels["instance"]: value for labels, value in self.prometheus.query(metric)}


@pytest.fixture(scope="module")
def scene():
    with FakeMcpServer() as server, Alertmanager() as alertmanager:
        good, other = (EnvoyConfig(server.port, {"hold_request_headers": True}) for _ in range(2))
        other.plugin["allow_on_headers_stop_iteration"] = False
        del other.tree["stats_config"]
        for config in good, other:
            config.tree["stats_flush_on_admin"] = True
        with RealEnvoy(good) as one, RealEnvoy(other) as two, Prometheus([one, two], alertmanager) as prometheus:
            # An increase is one from the first sample on.
            read_twice = "count_over_time(mcp_session_live[1m]) > 1"
            prometheus.wait_for(read_twice, lambda found: len(found) == 2)
            yield Scene(server, (one, two), alertmanager, prometheus)


@pytest.fixture(scope="module")
def after_traffic(scene):
    """Sessions that are used, and, at the first Envoy, some that are lost while the server opens no other."""
    clients = [SilentClient(scene.envoys[0].port, [("x-api-key", f"key {number}")]) for number in range(5)]
    for client in clients:
        client.initialize()
        assert client.list_tools().status == 200
    with scene.server.changed:
        working = scene.server.answer
        scene.server.sessions.clear()
        scene.server.answer = lambda sent: error(503, "busy") if b'"initialize"' in sent.body else working(sent)
    assert [client.list_tools().status for client in clients] == [404] * 5
    scene.server.answer = working
    # Three for each of two workers.
    stranger = SilentClient(scene.envoys[1].port)
    stranger.initialize()
    for _ in range(20):
        if scene.envoys[1].counter("hold_unsupported") >= 3:
            break
        stranger.list_tools()
    return scene


def test_a_failed_recovery_fires(after_traffic):
    good, other = (envoy.admin for envoy in after_traffic.envoys)
    notes = after_traffic.alertmanager.wait_for("McpSessionRecoveryFailing", good)
    assert notes["summary"].startswith(f"{good}: lost sessions are not brought back")
    assert notes["runbook"] == "envoy/TROUBLESHOOTING.md#404"
    assert ("McpSessionRecoveryFailing", other) not in after_traffic.alertmanager.fired()


def test_headers_that_are_not_held_fire(after_traffic):
    good, other = (envoy.admin for envoy in after_traffic.envoys)
    after_traffic.alertmanager.wait_for("McpSessionHeadersNotHeld", other)
    assert ("McpSessionHeadersNotHeld", good) not in after_traffic.alertmanager.fired()


def test_nothing_else_fires(after_traffic):
    expected = {"McpSessionRecoveryFailing", "McpSessionHeadersNotHeld"}
    after_traffic.alertmanager.wait_until(lambda: expected <= alerts_of(after_traffic))
    assert alerts_of(after_traffic) == expected


def alerts_of(scene):
    return {alert for alert, _ in scene.alertmanager.fired()}


def test_envoys_with_and_without_the_stats_tag_look_the_same(after_traffic):
    good, other = (envoy.admin for envoy in after_traffic.envoys)
    found = after_traffic.prometheus.query('{__name__=~"mcp_session.*"}')
    series = {envoy: [] for envoy in (good, other)}
    for labels, _ in found:
        series[labels.pop("instance")].append(sorted(labels.items()))
    assert sorted(series[good]) == sorted(series[other])
    assert after_traffic.values('mcp_session{outcome="learned"}') == {good: 5, other: 1}


EXPRESSIONS = monitoring.panel_expressions(monitoring.dashboard())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_every_panel_has_data(after_traffic, where, expression):
    found = after_traffic.prometheus.wait_for(expression, bool)
    assert all(value >= 0 for _, value in found), found


def test_the_panels_of_what_took_place_are_above_zero(after_traffic):
    shown = dict(EXPRESSIONS)
    for where in (
        *("Repaired: repaired", "Lost and recovered: recover_failed", "Opened, reused, ended: learned", "Errors: errors"),
        *("Clients' requests: p99", "Servers, all requests: p99", "Servers, clients' POSTs: p50"),
        *("Answers by status: {{envoy_response_code_class}}xx", "The filter's errors: hold_unsupported"),
    ):
        after_traffic.prometheus.wait_for(shown[where], lambda found: any(value > 0 for _, value in found))
    # A share, of at most everything.
    [(_, share)] = after_traffic.prometheus.query(shown["Repaired: repaired"])
    assert 0 < share < 1


ALERTS = monitoring.alert_expressions()


@pytest.mark.parametrize(("alert", "expression"), ALERTS, ids=[alert for alert, _ in ALERTS])
def test_every_alert_can_be_asked_for(after_traffic, alert, expression):
    found = after_traffic.prometheus.query(expression)
    expected = {"McpSessionRecoveryFailing": 1, "McpSessionHeadersNotHeld": 1}.get(alert, 0)
    assert len(found) == expected, found


def test_an_envoy_without_the_filter_fires():
    with FakeMcpServer() as server, Alertmanager() as alertmanager:
        config = EnvoyConfig(server.port).without_filter()
        with RealEnvoy(config) as envoy, Prometheus([envoy], alertmanager):
            notes = alertmanager.wait_for("McpSessionFilterMissing", envoy.admin)
            assert notes["summary"] == f"{envoy.admin}: this Envoy runs without the session filter"
