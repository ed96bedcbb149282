"""A relay on loopback that keeps every byte of both directions."""

import asyncio
from dataclasses import dataclass, field

from http1 import read_message
from loopback_server import LoopbackServer


@dataclass
class Connection:
    requests: bytearray = field(default_factory=bytearray)
    answers: bytearray = field(default_factory=bytearray)


class Recorder(LoopbackServer):
    def __init__(self, target_port):
        self.target_port = target_port
        self.connections = []
        super().__init__()

    def __str__(self):
        return "\n".join(repr(bytes(connection.requests[:200])) for connection in self.connections)

    async def serve(self, reader, writer):
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        connection = Connection()
        self.connections.append(connection)
        directions = [
            self._pass_on(reader, onward_writer, connection.requests),
            self._pass_on(onward_reader, writer, connection.answers),
        ]
        await asyncio.gather(*directions)

    async def _pass_on(self, reader, writer, kept):
        try:
            while piece := await reader.read(65536):
                with self.changed:
                    kept += piece
                    self.changed.notify_all()
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    def wait_for_answer(self, start_of_request):
        """Waits until a connection's last request starts so and its answer has begun."""
        self.wait_until(
            lambda: any(
                one.requests.rpartition(start_of_request)[1] and one.answers.rpartition(b"HTTP/1.1 200")[1]
                for one in self.connections
            )
        )

    def exchanges(self):
        """Each request with its answer, over all connections."""
        return [pair for connection in self.connections for pair in asyncio.run(parse(connection))]


async def parse(connection):
    requests, answers = asyncio.StreamReader(), asyncio.StreamReader()
    for reader, data in ((requests, connection.requests), (answers, connection.answers)):
        reader.feed_data(bytes(data))
        reader.feed_eof()
    pairs = []
    while request := await read_message(requests):
        pairs.append((request, await read_message(answers, is_answer=True)))
    return pairs
