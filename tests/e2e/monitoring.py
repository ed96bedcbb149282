"""The files of envoy/monitoring, as data."""

import json
import re
from itertools import combinations

import yaml
from processes import ROOT
from promql import expand, grouping_labels

FOLDER = ROOT / "envoy/monitoring"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID = 24


def load(name):
    return yaml.safe_load((FOLDER / name).read_text())


def dashboard():
    return json.loads((FOLDER / "dashboard.json").read_text())


def panels(board, rows=False):
    return [panel for panel in board["panels"] if rows or panel["type"] != "row"]


def panel_expressions(board):
    """(title, expression) as Grafana sends it when everything is chosen."""
    return [
        (f"{panel['title']}: {target['legendFormat']}", expand(target["expr"]))
        for panel in panels(board)
        for target in panel["targets"]
    ]


def variable_selectors(board):
    """What the lists of jobs and instances are read from."""
    queries = [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return [(query, expand(re.fullmatch(r"label_values\((.+), \w+\)", query)[1])) for query in queries]


def alert_rules():
    return [rule for group in load("alerts.yaml")["groups"] for rule in group["rules"]]


def alert_expressions():
    return [(rule["alert"], rule["expr"]) for rule in alert_rules()]


def dashboard_faults(board):
    """What is wrong with a dashboard, in words."""
    everything = panels(board, rows=True)
    ids = [panel["id"] for panel in everything]
    faults = [f"panel id {number} is taken twice" for number in sorted(set(ids)) if ids.count(number) > 1]
    pairs = [(one, other) for one, other in combinations(everything, 2) if overlap(one, other)]
    faults += [f"{one['title']} lies over {other['title']}" for one, other in pairs]
    for panel in everything:
        place = panel["gridPos"]
        if place["x"] + place["w"] > GRID:
            faults.append(f"{panel['title']} is too wide")
    for panel in panels(board):
        faults += panel_faults(panel)
    variables = [variable["name"] for variable in board["templating"]["list"]]
    if variables != ["datasource", "job", "instance"]:
        faults.append(f"variables: {variables}")
    queries = [variable for variable in board["templating"]["list"] if variable["type"] == "query"]
    faults += [f"{one['name']} has another datasource" for one in queries if one["datasource"] != DATASOURCE]
    return faults


def panel_faults(panel):
    title = panel["title"]
    if not panel.get("description"):
        yield f"{title} has no description"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield f"{title} has no unit"
    if panel.get("datasource") != DATASOURCE:
        yield f"{title} has another datasource"
    if not panel["targets"]:
        yield f"{title} asks for nothing"
    for target in panel["targets"]:
        if target.get("datasource") != DATASOURCE:
            yield f"{title} has a target with another datasource"
        expression = target.get("expr")
        if not expression:
            yield f"{title} has a target without an expression"
            continue
        if expression.count("{") != expression.count('{job=~"$job", instance=~"$instance"'):
            yield f"{title} does not look at the chosen job and instance alone"
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        if shown != grouping_labels(expand(expression)) - {"le"}:
            yield f"{title} has a legend that does not tell its lines apart"


def overlap(one, other):
    a, b = one["gridPos"], other["gridPos"]
    return (
        a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    )


def anchors(markdown):
    """The names under which the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
