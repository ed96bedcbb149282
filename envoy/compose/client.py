"""A client that never sends a session id: client.py SERVER ENVOY STATS

It makes the same calls straight at the server and through Envoy, and ends with an error if the filter did not repair.
"""

import json
import sys
import urllib.error
import urllib.request

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


def fetch(url, message=None):
    """The answer and its text, whatever its status; a message makes it a POST."""
    body = None if message is None else json.dumps(message).encode()
    request = urllib.request.Request(url, body, HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal, refusal.read().decode()


def ask(place, message):
    """Whether the message was answered, and the answer in a few words."""
    answer, text = fetch(f"{place}/mcp", message)
    # An event stream carries its message in a data line.
    data = next((line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip()), text)
    try:
        reply = json.loads(data)
    except ValueError:
        reply = {}
    if answer.status >= 400:
        return False, f"{answer.status} {reply.get('error', {}).get('message', text).removeprefix('Bad Request: ')}"
    result = reply.get("result", {})
    if "tools" in result:
        words = ", ".join(tool["name"] for tool in result["tools"])
    elif "content" in result:
        words = result["content"][0]["text"]
    elif "serverInfo" in result:
        words = f"session {answer.headers['mcp-session-id'][:8]}"
    else:
        words = answer.reason
    return True, f"{answer.status} {words}"


def cell(answered, words):
    return f"{'✓' if answered else '✗'} {words[:24]:26}"


def main(server, envoy, stats):
    print("A client that never sends mcp-session-id\n")
    print(f"{'':27}{'straight at the server':28}through Envoy")
    direct, through = [], []
    for message in STEPS:
        direct.append(ask(server, message))
        through.append(ask(envoy, message))
        print(f"{message['method']:27}{cell(*direct[-1])}{cell(*through[-1])}".rstrip())

    _, text = fetch(f"{stats}/stats?filter=wasmcustom.mcp_session&usedonly")
    counters = dict(line.removeprefix("wasmcustom.").split(": ") for line in text.splitlines())
    print("\nWhat Envoy counted\n")
    for name, value in counters.items():
        print(f"{name:27}{value:>4}")

    if any(answered for answered, _ in direct[1:]):
        sys.exit("\nThe server answered without a session id: this demo shows nothing.")
    if not all(answered for answered, _ in through) or not int(counters.get("mcp_session.repaired", 0)):
        sys.exit("\nNot repaired: the filter did not do its work.")
    print("\nRepaired: each request got its session id from the filter.")


if __name__ == "__main__":
    main(*sys.argv[1:])
