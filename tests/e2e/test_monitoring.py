"""envoy/monitoring against what a real Envoy shows after real traffic: everything that is asked for is there."""

import copy
import http.client
import json
import re
import urllib.parse

import exposition
import mcp_servers
import monitoring
import promql
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from processes import ROOT, start_envoy
from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import BOTH, SilentClient

PAGES = [monitoring.FOLDER / "README.md", ROOT / "envoy/TROUBLESHOOTING.md"]
METRIC = "mcp_session"


def outcomes():
    """Those of requests. A host's error is counted where it happens, once or more for a request: it is none of them."""
    return set(re.findall(r'=> "(\w+)"', (ROOT / "src/outcome.rs").read_text())) - {"host_error"}


def events():
    """What is counted beside outcomes."""
    return set(re.findall(r' counter\("(\w+)"\)', (ROOT / "src/metrics.rs").read_text())) | {"host_error"}


def config(server, settings=None):
    """Histograms are merged each time that somebody asks, not every five seconds."""
    made = EnvoyConfig(server.port, settings)
    made.tree["stats_flush_on_admin"] = True
    return made


def expose(envoy):
    return exposition.parse(envoy._get("/stats/prometheus"))


@pytest.fixture(scope="module")
def running(fake_server):
    with RealEnvoy(config(fake_server, {"hold_request_headers": True})) as envoy:
        yield envoy


@pytest.fixture(scope="module")
def exposed(running):
    """After a session from its beginning to its end."""
    client = SilentClient(running.port, [("x-api-key", "monitored")])
    client.initialize()
    for _ in range(3):
        client.list_tools()
    client.delete()
    client.list_tools()
    for _ in range(1000):
        shown = expose(running)
        if posts_timed(shown):
            return shown
    raise AssertionError("Envoy does not merge its histograms")


def posts_timed(shown):
    [count] = [
        value
        for name, labels, value in shown.samples
        if name == "envoy_vhost_vcluster_upstream_rq_time_count" and labels["envoy_virtual_cluster"] == "mcp_post"
    ]
    return count


def test_outcomes_are_one_counter_with_a_label(exposed):
    assert exposed.type_of(METRIC) == "counter"
    counted = exposed.values(METRIC, "outcome")
    assert set(counted) == outcomes()
    # The DELETE of a client without an id was repaired first, and then ended the session.
    assert {name: count for name, count in counted.items() if count} == {
        **{"learned": 1, "repaired": 3, "ended": 1, "passed_no_session": 1},
    }


def test_everything_else_that_the_filter_counts_is_a_counter_of_its_own_without_labels(exposed):
    others = {name for name in exposed.types if name.startswith(f"{METRIC}_")}
    assert others == {f"{METRIC}_{event}" for event in events()} | {f"{METRIC}_live"}
    for name in others:
        assert exposed.type_of(name) == ("gauge" if name == f"{METRIC}_live" else "counter")
        assert exposed.series(name) == [{}]


def test_stats_keep_their_names(running, exposed):
    assert running.counter("repaired") == exposed.values(METRIC, "outcome")["repaired"]
    assert set(running.stats("^wasmcustom.")) == {
        f"wasmcustom.mcp_session.{name}" for name in outcomes() | events() | {"live"}
    }


def test_without_the_stats_tag_each_outcome_is_a_metric_of_its_own_that_prometheus_yaml_knows(fake_server):
    untagged = config(fake_server)
    del untagged.tree["stats_config"]
    with RealEnvoy(untagged) as envoy:
        types = expose(envoy).types
    [job] = monitoring.load("prometheus.yaml")["scrape_configs"]
    pattern = re.compile(job["metric_relabel_configs"][0]["regex"])
    ours = {name for name in types if name.startswith(METRIC)}
    assert {match[1] for name in ours if (match := pattern.fullmatch(name))} == outcomes()
    assert {name for name in ours if not pattern.fullmatch(name)} == {f"{METRIC}_{one}" for one in events() | {"live"}}


def test_no_request_adds_a_series(running, exposed):
    before = {(name, *sorted(labels.items())) for name, labels, _ in exposed.samples if name.startswith(METRIC)}
    for number in range(20):
        client = SilentClient(running.port, [("x-api-key", f"one of many {number}")], authority=f"host-{number}.test")
        client.initialize()
        client.list_tools(path=f"/mcp?number={number}")
        client.request("PURGE", path=f"/path/{number}")
    after = {(name, *sorted(labels.items())) for name, labels, _ in expose(running).samples if name.startswith(METRIC)}
    assert after == before
    assert len(after) == len(outcomes()) + len(events()) + 1


BOARD = monitoring.dashboard()
EXPRESSIONS = [
    *monitoring.variable_selectors(BOARD),
    *monitoring.panel_expressions(BOARD),
    *monitoring.alert_expressions(),
]


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_what_panels_and_alerts_ask_for_is_there(exposed, where, expression):
    assert promql.selectors(expression)
    assert promql.complaints(expression, exposed) == []


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ('rate(mcp_session{outcome="repared"}[1m])', 'mcp_session has no outcome="repared"'),
        ('rate(mcp_session{outcome=~"lost|recoverd"}[1m])', 'mcp_session has no outcome="recoverd"'),
        ('rate(mcp_session{outcomes!="lost"}[1m])', "mcp_session has no label outcomes"),
        ("rate(mcp_session_total[1m])", "no metric mcp_session_total"),
        ("sum(mcp_session_alive)", "no metric mcp_session_alive"),
        ("rate(envoy_http_downstream_rq_time[1m])", "no metric envoy_http_downstream_rq_time"),
        ("sum by (method) (rate(mcp_session[1m]))", "no label method"),
        (
            "histogram_quantile(0.5, sum(rate(envoy_http_downstream_rq_time_bucket[1m])))",
            "envoy_http_downstream_rq_time_bucket: `by (le)` is for buckets, and all that is for them",
        ),
    ],
)
def test_a_misspelled_expression_is_found(exposed, expression, complaint):
    assert promql.complaints(expression, exposed) == [complaint]


def test_what_is_no_promql_is_refused():
    with pytest.raises(ValueError, match="parenthesis"):
        promql.selectors("sum(rate(mcp_session[1m])")
    with pytest.raises(AssertionError, match="a variable that is not known"):
        promql.expand("rate(mcp_session[$interval])")


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_rates_are_taken_of_what_only_grows(exposed, where, expression):
    for function, metric in promql.ranges_over_counters(expression):
        assert function in ("rate", "increase")
        assert exposed.type_of(metric) in ("counter", "histogram")


def test_histograms_hold_what_took_place(exposed):
    # The DELETE is none.
    assert posts_timed(exposed) == 5
    limits = {labels["le"] for labels in exposed.series("envoy_http_downstream_rq_time_bucket")}
    # From half a millisecond to an hour: calls and event streams.
    assert {"0.5", "60000", "3600000", "+Inf"} <= limits


def test_the_dashboard_is_whole():
    assert monitoring.dashboard_faults(monitoring.dashboard()) == []


def unknown_to_grafana(board):
    """Where the dashboard has what Grafana's own schema has not."""
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    return sorted(set(places(board)) - set(places(kept)))


def places(tree, path=""):
    """The path of each value in a JSON document."""
    if not isinstance(tree, (dict, list)):
        return [path]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [place for key, value in items for place in places(value, f"{path}/{key}")]


def test_the_dashboard_is_one_of_grafanas():
    assert unknown_to_grafana(monitoring.dashboard()) == []


def test_a_key_that_grafana_does_not_know_is_found():
    board = monitoring.dashboard()
    board["panels"][2]["gridpos"] = board["panels"][2].pop("gridPos")
    assert unknown_to_grafana(board) == [f"/panels/2/gridpos/{side}" for side in "hwxy"]


def two_with_one_id(board):
    board["panels"][3]["id"] = board["panels"][2]["id"]


def one_over_another(board):
    board["panels"][3]["gridPos"]["x"] -= 1


def beyond_the_edge(board):
    board["panels"][6]["gridPos"]["w"] += 1


def another_datasource(board):
    board["panels"][2]["targets"][0]["datasource"] = {"type": "prometheus", "uid": "PBFA97CFB590B2093"}


def a_query_for_nothing(board):
    board["panels"][2]["targets"][0]["expr"] = ""


def of_all_instances(board):
    target = board["panels"][2]["targets"][0]
    target["expr"] = target["expr"].replace(', instance=~"$instance"', "")


def a_legend_of_nothing(board):
    board["panels"][2]["targets"][0]["legendFormat"] = "{{outcome}}"


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (two_with_one_id, "is taken twice"),
        (one_over_another, "lies over"),
        (beyond_the_edge, "is too wide"),
        (another_datasource, "another datasource"),
        (a_query_for_nothing, "without an expression"),
        (of_all_instances, "job and instance"),
        (a_legend_of_nothing, "legend"),
        (lambda board: board["panels"][2].pop("description"), "no description"),
        (lambda board: board["panels"][2]["fieldConfig"]["defaults"].pop("unit"), "no unit"),
        (lambda board: board["templating"]["list"].pop(), "variables"),
    ],
)
def test_a_fault_in_the_dashboard_is_found(spoil, fault):
    board = copy.deepcopy(monitoring.dashboard())
    spoil(board)
    faults = monitoring.dashboard_faults(board)
    assert faults and all(fault in one for one in faults), faults


def test_every_alert_says_what_to_do_and_where_more_stands():
    for rule in monitoring.alert_rules():
        notes = rule["annotations"]
        assert set(notes) == {"summary", "action", "runbook"}, rule["alert"]
        assert "$labels.instance" in notes["summary"], rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        page, _, anchor = notes["runbook"].partition("#")
        assert anchor in monitoring.anchors((ROOT / page).read_text()), rule["alert"]


def test_every_alert_is_tested_by_promtool():
    tests = (monitoring.FOLDER / "alerts.test.yaml").read_text()
    assert [rule["alert"] for rule in monitoring.alert_rules() if rule["alert"] not in tests] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_what_the_pages_name_is_there(exposed, page):
    text = page.read_text()
    assert set(re.findall(r"wasmcustom\.mcp_session\.(\w+)", text)) <= outcomes() | events() | {"live"}
    named = set(re.findall(r"\b(?:mcp_session|envoy)_[a-z_]+\b", text)) - {"mcp_session_filter", "envoy_gateway"}
    assert [name for name in sorted(named) if exposed.type_of(name) is None] == []
    said = set(re.findall(r"mcp_session=(\w+)", text)) | set(re.findall(r'outcome="(\w+)"', text))
    assert said <= outcomes() | {"host_error"}
    links = re.findall(r"\]\(([^)#:]*)#([\w-]+)\)", text)
    for target, anchor in links:
        linked = (page.parent / target).resolve() if target else page
        assert anchor in monitoring.anchors(linked.read_text()), (target, anchor)


def test_the_readme_tells_of_every_panel_and_alert():
    text = PAGES[0].read_text()
    titles = [panel["title"] for panel in monitoring.panels(monitoring.dashboard())]
    alerts = [rule["alert"] for rule in monitoring.alert_rules()]
    assert [name for name in titles + alerts if f"| {name} |" not in text] == []


SECRET = "not-to-be-seen"


def logged(envoy, found_by):
    """A session with credentials everywhere, and its lines in the access log."""
    client = SilentClient(envoy.port, [("authorization", f"Bearer {SECRET}"), ("x-api-key", SECRET)])
    opened = client.initialize(path=f"/mcp?api_key={SECRET}")
    listed = client.list_tools()
    with_id = [("accept", BOTH), ("mcp-session-id", opened.session)]
    own = client.list_tools(path=f"/mcp?api_key={SECRET}", headers=with_id)
    for answer in opened, listed, own:
        envoy.process.out.wait_for(found_by(answer.header("x-request-id")))
    lines = list(envoy.process.out.lines)
    assert not [line for line in lines if SECRET in line or opened.session in line]
    return listed, lines


def test_the_access_log_tells_what_became_of_a_request_and_no_secrets(running, fake_server):
    answer, lines = logged(running, lambda name: f"request={name}")
    [line] = [line for line in lines if answer.header("x-request-id") in line]
    time, *rest = line.split(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", time)
    duration = rest.pop(5)
    assert re.fullmatch(r"\d+ms", duration)
    assert rest == [
        *('"POST', '/mcp"', "200", "-", "via_upstream", f"upstream=127.0.0.1:{fake_server.port}"),
        *(f"request={answer.header('x-request-id')}", "mcp_session=repaired"),
    ]


def test_the_access_log_as_json_tells_the_same(fake_server):
    as_json = config(fake_server)
    as_json.connection_manager["access_log"] = monitoring.load("access_log.yaml")["access_log"]
    with RealEnvoy(as_json) as envoy:
        answer, lines = logged(envoy, lambda name: name)
        outside = SilentClient(envoy.port).request("GET", path="/elsewhere")
        envoy.process.out.wait_for(outside.header("x-request-id"))
        entries = {entry["request"]: entry for entry in map(json.loads, envoy.process.out.lines)}
    entry = entries[answer.header("x-request-id")]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", entry.pop("time"))
    assert entry.pop("duration_ms") in range(10_000)
    assert entry == {
        **{"method": "POST", "path": "/mcp", "status": 200, "flags": "-", "details": "via_upstream"},
        **{"upstream": f"127.0.0.1:{fake_server.port}", "request": answer.header("x-request-id")},
        **{"mcp_session": "repaired"},
    }
    assert entries[outside.header("x-request-id")]["mcp_session"] is None


def test_the_listener_for_prometheus_shows_metrics_and_nothing_else(fake_server, tmp_path):
    made, extra = config(fake_server), monitoring.load("stats_listener.yaml")
    admin_port, port = mcp_servers.free_port(), mcp_servers.free_port()
    made.tree["admin"]["address"]["socket_address"]["port_value"] = admin_port
    text = yaml.safe_dump(extra).replace("9901", str(admin_port)).replace("9902", str(port))
    with start_envoy(made.write(tmp_path), "--config-yaml", text):

        def status(method, path):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        code, shown = status("GET", "/stats/prometheus")
        assert code == 200
        assert exposition.parse(shown).type_of(METRIC) == "counter"
        for method, path in [
            *[("GET", "/"), ("GET", "/stats"), ("GET", "/config_dump"), ("GET", "/stats/prometheus/../../config_dump")],
            *[("POST", "/quitquitquit"), ("POST", "/stats/prometheus"), ("POST", "/logging?level=trace")],
        ]:
            assert status(method, path)[0] == 404, path


def block(first_line):
    """What the README shows under this key."""
    [found] = re.findall(rf"```yaml\n({first_line}\n.*?)```", PAGES[0].read_text(), re.DOTALL)
    return yaml.safe_load(found)


def test_the_buckets_that_the_readme_shows_are_taken(fake_server):
    coarser = config(fake_server)
    settings = block("stats_config:")["stats_config"]
    coarser.tree["stats_config"] |= settings
    with RealEnvoy(coarser) as envoy:
        series = expose(envoy).series("envoy_http_downstream_rq_time_bucket")
    [setting] = settings["histogram_bucket_settings"]
    assert [float(labels["le"]) for labels in series if labels["envoy_http_conn_manager_prefix"] == "mcp"] == [
        *setting["buckets"],
        float("inf"),
    ]


def test_the_filter_that_the_readme_shows_leaves_what_is_asked_for(running, exposed):
    [pattern] = block("params:")["params"]["filter"]
    left = exposition.parse(running._get(f"/stats/prometheus?{urllib.parse.urlencode({'filter': pattern})}"))
    assert len(left.samples) < len(exposed.samples) / 4
    assert [name for name, expression in EXPRESSIONS if promql.complaints(expression, left)] == []
