"""The ext_proc service that does what the session filter does, and how Envoy is told to ask it."""

import contextlib
import tempfile
from pathlib import Path

from processes import ROOT, Process
from upstream import typed

SERVICE = ROOT / "target/ext_proc/release/ext_proc_service"
CLUSTER = "ext_proc"
# What the service looks at: nothing else is sent.
HEADERS = (":path", "authorization", "mcp-session-id", "mcp-protocol-version")
# The least that does it: for what needs more, a POST without a session id, the service asks for more.
FILTER = typed(
    "ext_proc",
    "http.ext_proc.v3.ExternalProcessor",
    grpc_service={"envoy_grpc": {"cluster_name": CLUSTER}},
    processing_mode={"request_header_mode": "SEND", "response_header_mode": "SKIP"},
    allow_mode_override=True,
    forward_rules={"allowed_headers": {"patterns": [{"exact": name} for name in HEADERS]}},
    # By default a service that is late by 200 ms fails the request: on a busy machine that may be.
    message_timeout="10s",
)


@contextlib.contextmanager
def service():
    """The running service, and the cluster that it is."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "socket"
        with Process(SERVICE, socket) as process:
            process.out.wait_for("listening")
            yield process, cluster(socket)


def cluster(socket):
    options = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"}
    options["explicit_http_config"] = {"http2_protocol_options": {}}
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": CLUSTER,
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
