"""A real Prometheus on loopback, configured as envoy/monitoring has it but quicker, and an Alertmanager that listens."""

import copy
import json
import shutil
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

import mcp_servers
import monitoring
import yaml
from processes import ROOT, Process
from scripted_server import JSON, Answer, ScriptedServer

QUICK = "200ms"
POLLS = 20_000


def find(tool):
    """The tool on the path, or what the Makefile unpacked; None without either."""
    unpacked = ROOT / "target/prometheus/usr/bin" / tool
    return shutil.which(tool) or (str(unpacked) if unpacked.exists() else None)


class Alertmanager(ScriptedServer):
    """Keeps what fires."""

    def __init__(self):
        super().__init__(lambda _: Answer(200, [JSON], b"{}"))

    def fired(self):
        """(alert, instance): its annotations."""
        alerts = [alert for request in self.requests for alert in json.loads(request.body)]
        return {(one["labels"]["alertname"], one["labels"]["instance"]): one["annotations"] for one in alerts}

    def wait_for(self, alert, instance):
        self.wait_until(lambda: (alert, instance) in self.fired())
        return self.fired()[alert, instance]


class Prometheus:
    """Reads these Envoys, tells the Alertmanager; leaving the `with` block ends it."""

    def __init__(self, envoys, alertmanager):
        self.port = mcp_servers.free_port()
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(quick_config(envoys, alertmanager)))
        (folder / "alerts.yaml").write_text(yaml.safe_dump(quick_rules()))
        self.process = Process(
            find("prometheus"),
            *(f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        )
        try:
            self.process.err.wait_for("Server is ready to receive web requests")
        except RuntimeError:
            self.process.kill()
            raise

    def query(self, expression):
        """(labels, value) of each result."""
        question = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{question}", timeout=10) as answer:
            data = json.load(answer)["data"]
        assert data["resultType"] == "vector", data
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def wait_for(self, expression, is_enough):
        """What the query gives once that is enough."""
        for _ in range(POLLS):
            if is_enough(found := self.query(expression)):
                return found
        raise AssertionError(f"{expression} stays {found}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()
        self._folder.cleanup()


def quick_config(envoys, alertmanager):
    config = copy.deepcopy(monitoring.load("prometheus.yaml"))
    config["global"] = {"scrape_interval": QUICK, "scrape_timeout": QUICK, "evaluation_interval": QUICK}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [envoy.admin for envoy in envoys]}]
    listener = {"static_configs": [{"targets": [f"127.0.0.1:{alertmanager.port}"]}]}
    config["alerting"] = {"alertmanagers": [listener]}
    return config


def quick_rules():
    """Without waiting for what lasts: promtool's tests hold that."""
    rules = monitoring.load("alerts.yaml")
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    return rules
