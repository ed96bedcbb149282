"""A client that never sends a session id, straight at a real MCP server and through Envoy with the filter.

Ends by itself, with an error if the filter did not repair. With --stay the server and Envoy run until Ctrl-C.
"""

import argparse
import contextlib
import http.client
import json
import signal
import socket
import sys
from pathlib import Path

import yaml
from processes import start_envoy, start_everything_server
from terminal import NO, YES, bold, faint, paint

CONFIG = Path(__file__).with_name("envoy.yaml")
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "silent-client", "version": "1.0"},
}
STEPS = [
    {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hello"}}},
]


class Ports:
    """The three ports that the configuration names."""

    def __init__(self, config_file):
        config = yaml.safe_load(config_file.read_text())
        resources = config["static_resources"]
        endpoint = resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        self.server = endpoint["address"]["socket_address"]["port_value"]
        self.envoy = resources["listeners"][0]["address"]["socket_address"]["port_value"]
        self.admin = config["admin"]["address"]["socket_address"]["port_value"]

    def busy(self):
        return [port for port in (self.server, self.envoy, self.admin) if not is_free(port)]


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def fetch(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer, answer.read().decode()


def ask(port, message):
    """Sends one message without a session id: whether it was answered, and the answer in a few words."""
    answer, text = fetch(port, "POST", "/mcp", json.dumps(message), HEADERS)
    # An event stream carries its message in a data line.
    data = next((line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip()), text)
    reply = json.loads(data) if data.strip() else {}
    if answer.status >= 400:
        return False, f"{answer.status} {reply.get('error', {}).get('message', '').removeprefix('Bad Request: ')}"
    result = reply.get("result", {})
    if "tools" in result:
        words = f"{len(result['tools'])} tools"
    elif "content" in result:
        words = result["content"][0]["text"]
    elif session := answer.getheader("mcp-session-id"):
        words = f"session {session[:8]}"
    else:
        words = answer.reason
    return True, f"{answer.status} {words}"


def cell(answered, words, width=29):
    words = words if len(words) < width - 2 else words[: width - 5] + "..."
    mark = paint("32", YES) if answered else paint("31", NO)
    return f"{mark} {words.ljust(width - 2)}"


def show(ports):
    """Both conversations side by side, then Envoy's counters; whether the filter did its work."""
    print(f"\n  {bold('A client that never sends mcp-session-id')}, in front of a real MCP server\n")
    print(faint(f"  {'':27}{f'straight at it, :{ports.server}':29}through Envoy, :{ports.envoy}"))
    direct, through = [], []
    for message in STEPS:
        direct.append(ask(ports.server, message))
        through.append(ask(ports.envoy, message))
        print(f"  {message['method']:27}{cell(*direct[-1])}{cell(*through[-1])}".rstrip())

    print(f"\n  {bold('What Envoy counted')}  {faint(f'http://127.0.0.1:{ports.admin}/stats?filter=wasmcustom')}\n")
    counters = read_counters(ports.admin)
    for name, value in counters.items():
        print(f"  {name:30}{value:>4}")

    repairs = len(STEPS) - 1
    refused = not any(answered for answered, _ in direct[1:])
    repaired = all(answered for answered, _ in through) and counters.get("mcp_session.repaired", 0) >= repairs
    if not refused:
        print("\n  The server answered without a session id: this demo shows nothing.\n")
    elif repaired:
        print(f"\n  {paint('32', 'Repaired')}: {repairs} of {repairs} requests got their session id from the filter.\n")
    else:
        print(f"\n  {paint('31', 'Not repaired')}: the filter did not do its work.\n")
    return refused and repaired


def read_counters(admin_port):
    _, text = fetch(admin_port, "GET", "/stats?filter=wasmcustom&usedonly")
    lines = (line.removeprefix("wasmcustom.").rsplit(": ", 1) for line in text.splitlines())
    return {name: int(value) for name, value in lines}


def stay(ports, envoy):
    """Tells what to try, then passes on Envoy's access log until Ctrl-C."""
    url = f"http://127.0.0.1:{ports.envoy}/mcp"
    accept = f"-H 'accept: {HEADERS['accept']}'"
    post = f"curl -s {url} -H 'content-type: application/json' {accept}"
    print(
        f"""
  {bold("Running")}, Ctrl-C ends it. A session, opened once:

    {post} \\
      -d '{json.dumps(STEPS[0])}'

  and used without its id (add {bold("-H 'x-session-filter: off'")} to see it without the filter):

    {post} \\
      -d '{json.dumps(STEPS[2])}'
    {post} \\
      -d '{json.dumps(STEPS[3])}'
    curl -s -X DELETE {url}

  Envoy's counters:

    curl -s 'http://127.0.0.1:{ports.admin}/stats?filter=wasmcustom&usedonly'

  {faint("Envoy's access log:")}
""",
        flush=True,
    )
    for line in envoy.out.follow():
        print(f"  {faint(line)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep the server and Envoy running until Ctrl-C")
    parser.add_argument("--config", type=Path, default=CONFIG, help="Envoy's configuration (%(default)s)")
    options = parser.parse_args()
    ports = Ports(options.config)
    if busy := ports.busy():
        taken = " and ".join(f"127.0.0.1:{port}" for port in busy)
        sys.exit(f"Something else listens on {taken} already: end it and try again.")

    # What ends this program also ends the server and Envoy.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as running:
        server, _ = start_everything_server(ports.server)
        running.enter_context(server)
        envoy = running.enter_context(start_envoy(options.config))
        if options.stay:
            stay(ports, envoy)
            sys.exit("Envoy has ended by itself:\n" + "\n".join(envoy.err.lines[-10:]))
        if not show(ports):
            sys.exit("\n".join(["Envoy's last words:", *envoy.err.lines[-10:]]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
