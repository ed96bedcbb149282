"""Opens sessions through an Envoy, many at a time."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor

from load import BOTH, CONNECTIONS, JSON
from upstream import OPENS, VERSION, message

PARAMS = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1.0"}}
BODY = message(id=1, method="initialize", params=PARAMS).encode()
AT_ONCE = 64


def session_of(caller):
    return f"session-{caller}"


def opening(port, target, caller):
    headers = [("host", f"127.0.0.1:{port}"), BOTH, JSON, ("content-length", str(len(BODY)))]
    headers += [("authorization", f"Bearer {caller}"), (OPENS, session_of(caller))]
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode() + BODY


def open_sessions(port, callers, target=lambda caller: "/mcp"):
    """An `initialize` for each caller, sent in batches on a few connections."""

    def run(callers):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            for first in range(0, len(callers), AT_ONCE):
                batch = callers[first : first + AT_ONCE]
                connection.sendall(b"".join(opening(port, target(caller), caller) for caller in batch))
                receive(connection, [session_of(caller) for caller in batch])

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(run, callers[number::CONNECTIONS]) for number in range(CONNECTIONS)]:
            done.result()


def receive(connection, sessions):
    """Reads until so many have answered, each with its own session."""
    received = b""
    while received.count(b'"serverInfo"') < len(sessions):
        piece = connection.recv(1 << 16)
        if not piece:
            raise RuntimeError(f"the connection ended: {received[-200:]!r}")
        received += piece
    # What follows the last one's name may come with the next batch.
    opened = re.findall(rb"\r\nmcp-session-id: (\S+)", received)
    if [session.decode() for session in opened] != sessions:
        raise RuntimeError(f"not the sessions {sessions}: {received[-500:]!r}")
