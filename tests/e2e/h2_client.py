"""One HTTP/2 request over plain TCP, frame by frame."""

import socket

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from silent_client import Reply


def post_with_trailers(port, headers, body):
    """The body's last frame does not end the stream: trailers do."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        frames = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        frames.initiate_connection()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/mcp")]
        frames.send_headers(1, [*pseudo, *headers])
        frames.send_data(1, body)
        frames.send_headers(1, [("x-trailer", "there")], end_stream=True)
        connection.sendall(frames.data_to_send())

        status, fields, received = None, [], b""
        while data := connection.recv(65536):
            for event in frames.receive_data(data):
                if isinstance(event, ResponseReceived):
                    fields = [(name, value) for name, value in event.headers if not name.startswith(":")]
                    status = int(dict(event.headers)[":status"])
                elif isinstance(event, DataReceived):
                    received += event.data
                elif isinstance(event, StreamReset):
                    raise AssertionError(f"Envoy reset the stream: {event.error_code}")
                elif isinstance(event, StreamEnded):
                    return Reply(status, fields, received)
            connection.sendall(frames.data_to_send())
    raise AssertionError("Envoy closed the connection")
