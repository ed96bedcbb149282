"""A cheap MCP server: an Envoy that answers by itself, once it has read all of a request."""

import json
from pathlib import Path

import yaml

# A server answers with the id that came. This one can't read, so it always says one that the filter may have made: in
# shared sessions it is put back, and elsewhere nobody minds.
ID = "mcpsf~5b0c6d2f9e814a37~1"
VERSION = "2025-11-25"
# On an `initialize`: the session id that it is to get.
OPENS = "x-opens"
# On each answer: the session id that came with its request.
SEEN = "x-session-seen"
EVENTS = (1, 100, 1000, 10_000)
LARGEST_BODY = 32 << 20
TOOL = {"name": "search", "description": "Searches the web", "inputSchema": {"type": "object"}}


def message(**parts):
    return json.dumps({"jsonrpc": "2.0", **parts}, separators=(",", ":"))


INITIALIZE_RESULT = message(
    id=1,
    result={
        "protocolVersion": VERSION,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "direct", "version": "1.0"},
    },
)
TOOLS = message(id=ID, result={"tools": [TOOL] * 3})


def event_stream(events):
    """So many events: all but the last are news on the way."""
    params = {"progressToken": "a token", "progress": 12, "message": "still at work"}
    news = message(method="notifications/progress", params=params)
    return "".join(f"event: message\ndata: {text}\n\n" for text in [*[news] * (events - 1), TOOLS])


def header(name, value):
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def answers(match, body, content_type, *headers):
    return {
        "match": {"prefix": "/", **match},
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [
            header("content-type", content_type),
            header(SEEN, "%REQ(mcp-session-id)%"),
            *headers,
        ],
    }


ROUTES = [
    answers(
        {"headers": [{"name": OPENS, "present_match": True}]},
        INITIALIZE_RESULT,
        "application/json",
        header("mcp-session-id", f"%REQ({OPENS})%"),
    ),
    *(
        answers(
            {"query_parameters": [{"name": "events", "string_match": {"exact": str(events)}}]},
            event_stream(events),
            "text/event-stream",
        )
        for events in EVENTS
    ),
    answers({}, TOOLS, "application/json"),
]


def typed(name, kind, **settings):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.filters.{kind}", **settings}}


class UpstreamConfig:
    """The server's configuration, to be run as any other."""

    @staticmethod
    def has_filter():
        return False

    @staticmethod
    def write(folder):
        loopback = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
        manager = typed(
            "manager",
            "network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="upstream",
            route_config={
                "max_direct_response_body_size_bytes": LARGEST_BODY,
                "virtual_hosts": [{"name": "upstream", "domains": ["*"], "routes": ROUTES}],
            },
            http_filters=[
                # Or it would answer before the body has come, and end the connection.
                typed("whole", "http.buffer.v3.Buffer", max_request_bytes=LARGEST_BODY),
                typed("router", "http.router.v3.Router"),
            ],
        )
        listener = {"name": "upstream", "address": loopback, "filter_chains": [{"filters": [manager]}]}
        path = Path(folder) / "upstream.yaml"
        path.write_text(yaml.safe_dump({"static_resources": {"listeners": [listener]}, "admin": {"address": loopback}}))
        return path
