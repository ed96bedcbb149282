"""Asks LiteLLM for the tools of its one MCP server, alone and side by side: client.py LITELLM MCP_URL STATS

Ends with an error if any answer comes without tools.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

HEADERS = {"content-type": "application/json", "authorization": f"Bearer {os.environ['LITELLM_MASTER_KEY']}"}


def fetch(url, message=None):
    body = None if message is None else json.dumps(message).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, HEADERS), timeout=75) as answer:
        return answer.read().decode()


def tools(url, message=None):
    """The names of the tools in the answer; LiteLLM answers many failures with an empty list."""
    try:
        text = fetch(url, message)
    except urllib.error.HTTPError as refusal:
        text = refusal.read().decode()
    try:
        names = [tool["name"] for tool in json.loads(text)["tools"]]
    except (ValueError, KeyError):
        names = []
    if not names:
        print(f"LiteLLM without tools: {text[:300]}")
    return names


def side_by_side(count, rounds, *question):
    """How many answers had tools."""
    with ThreadPoolExecutor(count) as pool:
        return sum(bool(found) for _ in range(rounds) for found in pool.map(lambda _: tools(*question), range(count)))


def main(litellm, mcp_url, stats):
    lists = f"{litellm}/mcp-rest/tools/list"
    # What the form that adds a server asks for, before there is one.
    preview = {"server_id": "", "server_name": "preview", "url": mcp_url, "transport": "http", "auth_type": "none"}
    print("LiteLLM in front of a server that holds one session\n")
    names = tools(lists)
    previews = side_by_side(2, 10, f"{litellm}/mcp-rest/test/tools/list", {**preview, "static_headers": {}})
    together = side_by_side(3, 5, lists)
    rows = {
        "one list": (bool(names), ", ".join(names) or "no tools"),
        "previews, 2 at once": (previews == 20, f"{previews}/20"),
        "lists, 3 at once": (together == 15, f"{together}/15"),
    }
    for row, (good, words) in rows.items():
        print(f"{row:27}{'✓' if good else '✗'} {words}")

    print("\nWhat Envoy counted\n")
    for line in fetch(f"{stats}/stats?filter=wasmcustom.mcp_session&usedonly").splitlines():
        name, value = line.removeprefix("wasmcustom.").split(": ")
        if value != "0":
            print(f"{name:27}{value:>4}")

    if not all(good for good, _ in rows.values()):
        sys.exit("\nTools are missing: look at the server's log, docker compose -f compose.litellm.yaml logs searxng")
    print("\nTools each time, in a session that all share.")


if __name__ == "__main__":
    main(*sys.argv[1:])
