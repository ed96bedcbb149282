"""Bodies that stall while something waits for them arrive whole, once, and in order; on routes with retries too.

Envoy keeps a request's body for retries. To let a request or an answer go from outside while its body is collected has
made Envoy send parts of it twice, or not at all.
"""

import asyncio
import json
import socket
import time

import pytest
from http1 import read_message
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import FakeMcpServer
from silent_client import SilentClient, request

# The filter waits for a method for five seconds. That they are over shows nowhere: there is no event to wait for.
BEYOND_THE_LONGEST_WAIT = 5.5
STALLED = b'{"jsonrpc":"2.0","id":7,"params":{"a":"'
REST = [b'b"},', b'"method":"tools/list"', b',"x":"', b"y" * 50_000, b'"}']


class StallingServer(FakeMcpServer):
    """Refuses `stall` in three pieces: the first at once, the others when it has answered the filter's ping."""

    PIECES = [b'{"one": "' + b"1" * 5000, b'", "two": "' + b"2" * 5000, b'", "three": 3}']

    def __init__(self):
        self.pinged = asyncio.Event()
        super().__init__()

    async def serve(self, reader, writer):
        while message := await read_message(reader):
            if b'"stall"' in message.body:
                await self._refuse_in_pieces(writer)
                continue
            writer.write(self._note(message).encode())
            await writer.drain()
            if b'"ping"' in message.body:
                self.pinged.set()

    async def _refuse_in_pieces(self, writer):
        first, *others = self.PIECES
        length = sum(map(len, self.PIECES))
        head = f"HTTP/1.1 404 Stalled\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        writer.write(head.encode() + first)
        await self.pinged.wait()
        for piece in others:
            # That Envoy has read the ping's answer, or the piece before, shows nowhere.
            await asyncio.sleep(0.3)
            writer.write(piece)


@pytest.fixture(scope="module")
def server():
    with StallingServer() as running:
        yield running


@pytest.fixture(scope="module", params=[False, True], ids=["no-retries", "retries"])
def envoy(server, request):
    config = EnvoyConfig(server.port, {"hold_request_headers": True})
    route = config.connection_manager["route_config"]["virtual_hosts"][0]["routes"][-1]["route"]
    if request.param:
        route["retry_policy"] = {"retry_on": "5xx,reset", "num_retries": 2}
    with RealEnvoy(config) as running:
        yield running
        running.assert_filter_lives()


def test_a_body_that_stalls_before_its_method_arrives_once_and_without_an_id(envoy, server):
    client = SilentClient(envoy.port)
    session = client.initialize().session
    body = STALLED + b"".join(REST)
    head = f"POST /mcp HTTP/1.1\r\nhost: {client.authority}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    before = len(server.requests)
    with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
        envoy.send_in_pieces(connection, [head, STALLED])
        time.sleep(BEYOND_THE_LONGEST_WAIT)
        envoy.send_in_pieces(connection, REST)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    assert client.list_tools().result["session"] == session
    stalled, listed = server.requests[before:]
    assert stalled.body == body
    assert stalled.header("mcp-session-id") is None
    assert json.loads(listed.body)["method"] == "tools/list"


def test_a_refusal_that_comes_in_pieces_around_its_ping_arrives_whole(envoy, server):
    client = SilentClient(envoy.port)
    session = client.initialize().session
    server.pinged.clear()
    before = len(server.requests)
    refused = client.post(request("stall"))
    assert (refused.status, refused.body) == (404, b"".join(server.PIECES))
    assert [json.loads(ping.body)["method"] for ping in server.requests[before:]] == ["ping"]
    assert client.list_tools().result["session"] == session
