"""LiteLLM, Envoy and an MCP server in a row on loopback, all real, and the questions that show whether tools load."""

import contextlib
import http.client
import json
import secrets
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from processes import EVERYTHING, ROOT, Process, start_node_server
from real_envoy import EnvoyConfig, RealEnvoy

LITELLM = "1.81.4"
CURRENT_LITELLM = "1.106.2"
SEARXNG = "mcp-searxng-1.0.1"
NODE_MODULES = ROOT / "target/npm-litellm/node_modules"

WITHOUT_FILTER = None
MODES = {
    "reuse": {"on_reinitialize": "reuse", "hold_request_headers": True},
    "queue": {"on_reinitialize": "queue", "hold_request_headers": True},
}

PREVIEW_ROUNDS, PREVIEWS_AT_ONCE = 10, 2
LIST_ROUNDS, LISTS_AT_ONCE = 5, 3
# Longer than LiteLLM's own patience: it gives up on a list after 30 seconds, on a preview after 60.
PATIENCE = 75

JSON = {"content-type": "application/json"}
BOTH = {**JSON, "accept": "application/json, text/event-stream"}
# What curl sends if nobody tells it otherwise.
ANYTHING = {**JSON, "accept": "*/*"}


def start_server(name, port=0):
    """An MCP server in one of the pinned versions, and its port; port 0 means any that is free."""
    package = NODE_MODULES / name
    [script] = json.loads((package / "package.json").read_text())["bin"].values()
    if name.startswith("mcp-searxng"):
        # It refuses 0; the preload takes a free port instead. No search engine is behind it: listing tools needs none.
        place = {"MCP_HTTP_PORT": str(port)} if port else {"MCP_HTTP_PORT": "1", "ANY_PORT": "1"}
        return start_node_server(package / script, env={**place, "SEARXNG_URL": "http://127.0.0.1:1"})
    child = f'node "{EVERYTHING}" stdio'
    options = ["--stdio", child, "--outputTransport", "streamableHttp", "--stateful", "--port", port]
    return start_node_server(package / script, *options)


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def tools(self):
        """How many tools it names, in plain JSON or in an event stream; LiteLLM answers failures with an empty list."""
        data = [line[5:] for line in self.text.splitlines() if line.startswith("data:") and line[5:].strip()]
        try:
            message = json.loads(data[0] if data else self.text)
        except ValueError:
            return 0
        found = message if "tools" in message else message.get("result") or {}
        return len(found.get("tools", []))


def ask(port, method, path, headers, message=None, host="127.0.0.1"):
    """One request on a connection of its own; an answer that never comes has the status 0."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    body = None if message is None else json.dumps(message)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())
        except (OSError, http.client.HTTPException) as failure:
            return Answer(0, repr(failure))


class LiteLlm:
    """LiteLLM's proxy with one MCP server: no database, no models, a key of its own for this run."""

    def __init__(self, mcp_url, version=LITELLM):
        self.mcp_url = mcp_url
        key = "sk-" + secrets.token_hex(16)
        self._headers = {**JSON, "authorization": f"Bearer {key}"}
        config = {
            "model_list": [],
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
            "mcp_servers": {"scene": {"url": mcp_url, "transport": "http", "auth_type": "none"}},
        }
        # Neither a .env file nor a proxy of the surroundings, no price list from the network, no pages for people.
        env = {
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
            "DISABLE_ADMIN_UI": "True",
            "NO_DOCS": "True",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        program = ROOT / f"target/python/litellm-{version}/bin/litellm"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.yaml"
            path.write_text(yaml.safe_dump(config))
            options = ["--config", path, "--host", "127.0.0.1", "--port", "0", "--telemetry", "False"]
            self.process = Process(program, *options, env=env)
            try:
                self.process.err.wait_for("Application startup complete", timeout=120)
                self.port = int(self.process.err.wait_for(r"running on http://127\.0\.0\.1:(\d+)")[1])
            except RuntimeError:
                self.process.kill()
                raise
        alive = ask(self.port, "GET", "/health/liveliness", {})
        if alive.status != 200:
            self.process.kill()
            raise RuntimeError(f"LiteLLM is not alive: {alive}")

    def list_tools(self):
        """What a client of LiteLLM's asks for."""
        return ask(self.port, "GET", "/mcp-rest/tools/list", self._headers)

    def preview(self):
        """What the form that adds a server asks for, before there is one."""
        server = {"server_id": "", "server_name": "preview", "url": self.mcp_url, "transport": "http"}
        message = {**server, "auth_type": "none", "static_headers": {}}
        return ask(self.port, "POST", "/mcp-rest/test/tools/list", self._headers, message)

    def call_tool(self, name, arguments):
        servers = json.loads(ask(self.port, "GET", "/v1/mcp/server", self._headers).text)
        message = {"server_id": servers[0]["server_id"], "name": name, "arguments": arguments}
        return ask(self.port, "POST", "/mcp-rest/tools/call", self._headers, message)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()


class Scene:
    """The three of them; leaving the `with` block ends them, and the server's log is whole from then on."""

    def __init__(self, settings, server=SEARXNG, litellm=LITELLM):
        self._settings = settings
        self._server_name = server
        self._version = litellm
        self._running = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as starting:
            self.server, port = start_server(self._server_name)
            # Open event streams would hold up an orderly end.
            starting.callback(self.server.kill)
            config = EnvoyConfig(port)
            if self._settings is WITHOUT_FILTER:
                config = config.without_filter()
            else:
                config.set(self._settings)
            self.envoy = starting.enter_context(RealEnvoy(config))
            self.litellm = starting.enter_context(LiteLlm(f"http://127.0.0.1:{self.envoy.port}/mcp", self._version))
            # As it starts, LiteLLM lists the tools for itself, in a session that ours must not meet by chance.
            self.envoy.process.out.wait_for('"DELETE /mcp"')
            self._running = starting.pop_all()
        return self

    def __exit__(self, *failure):
        return self._running.__exit__(*failure)

    def previews(self, rounds=PREVIEW_ROUNDS):
        """How many previews showed tools, two at once."""
        return self._at_once(self.litellm.preview, PREVIEWS_AT_ONCE, rounds)

    def lists(self, rounds=LIST_ROUNDS):
        """How many lists had tools, three at once."""
        return self._at_once(self.litellm.list_tools, LISTS_AT_ONCE, rounds)

    def _at_once(self, question, count, rounds):
        with ThreadPoolExecutor(count) as pool:
            start = threading.Barrier(count)

            def asked():
                start.wait(PATIENCE)
                return question()

            answers = [
                running.result() for _ in range(rounds) for running in [pool.submit(asked) for _ in range(count)]
            ]
        return sum(answer.tools > 0 for answer in answers)

    def abandon_a_session(self):
        """Somebody opens a session, and is never heard of again: the report's first step."""
        client = {"name": "test", "version": "1.0"}
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client}
        return self._post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, BOTH)

    def list_without_session(self, headers=None):
        """The report's third step as printed: a list without a session id, by a client that accepts anything."""
        return self._post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}, headers or ANYTHING)

    def _post(self, message, headers):
        return ask(self.envoy.port, "POST", "/mcp", headers, message)

    def lines_in_server_log(self, text):
        """How often the server wrote this; only once the scene is over."""
        return sum(text in line for stream in (self.server.out, self.server.err) for line in stream.follow())


@dataclass
class Findings:
    """How one configuration did: what `make demo-litellm` shows, and test_litellm.py holds."""

    listed: int
    previews: int
    lists: int
    after_abandoned: int
    bare: Answer
    already_connected: int


def observe(settings, say=lambda what: None, **scene):
    """Plays the whole scene once with these settings of the filter; `say` is told what comes next."""
    say("LiteLLM, Envoy and the server start")
    with Scene(settings, **scene) as running:
        say("lists, alone and side by side")
        listed = running.litellm.list_tools().tools
        previews = running.previews()
        lists = running.lists()
        say("an abandoned session, and curl without a session")
        running.abandon_a_session()
        after_abandoned = running.litellm.list_tools().tools
        bare = running.list_without_session()
    already_connected = running.lines_in_server_log("Already connected to a transport")
    return Findings(listed, previews, lists, after_abandoned, bare, already_connected)
