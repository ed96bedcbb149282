"""A fake MCP server that answers with each id as it saw it, byte for byte, in the form that the client asks it for."""

import asyncio
import contextlib
import gzip
import re

from scripted_server import EVENT_STREAM, JSON, Answer, FakeMcpServer

ID = re.compile(rb'"id" ?: ?("(?:[^"\\]|\\.)*"|[-+.0-9eE]+)')
# What the server asks of its client by itself, under an id that a client may be using as well.
SERVERS_OWN = b'{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":9}}'


def ids(body):
    """The ids in a body as they are spelled: not for bodies with other ids inside."""
    return ID.findall(body)


def in_json(ids):
    """One answer, or those of a batch, the last asked first."""
    one = [b'{"jsonrpc":"2.0","id":' + id + b',"result":{"nr":%d}}' % number for number, id in enumerate(ids)]
    return one[0] if len(one) == 1 else b"[" + b",".join(reversed(one)) + b"]"


def in_events(ids):
    """An event for each answer."""
    return b"".join(b"event: message\ndata: " + in_json([id]) + b"\n\n" for id in ids)


def in_odd_events(ids):
    """All that the grammar of event streams allows around and inside of answers."""
    id = ids[0]
    return b"".join(
        [
            b"\xef\xbb\xbf: a comment\r\n\r\nretry: 1500\nid: 0\ndata:\n\n",
            b"event:message\rid: 1\rdata:" + SERVERS_OWN + b"\r\r",
            # Over several lines, which the reader joins.
            b'data: {"jsonrpc":"2.0",\ndata: "method":"notifications/message",\ndata:"params":{"id":1}}\n\n',
            b'id: 2\r\ndata: {"jsonrpc":"2.0",\r\n: "id":3\r\ndata:"id":\r\ndata: ' + id + b',\r\nother: "id":4\r\n',
            b'data: "result":{"id":5,"text":"\\"id\\":6"}}\r\nretry: 10\r\n\r\n',
            b"data: not JSON at all\n\n: the end, with no empty line behind",
        ]
    )


FORMS = {"json": (in_json, JSON), "events": (in_events, EVENT_STREAM), "odd-events": (in_odd_events, EVENT_STREAM)}


class Parrot(FakeMcpServer):
    """The header `x-form` names the answer's form. It compresses wherever it may, as eager servers do."""

    def __init__(self):
        # Is called before each piece of an answer that goes out byte by byte; nothing: all go out whole.
        self.pace = None
        super().__init__()

    def _answer(self, request):
        answer = super()._answer(request)
        form = request.header("x-form")
        found = self.seen_ids[-1] if request.method == "GET" else ids(request.body)
        if form is None or not found or answer.status not in (200, 202):
            return answer
        render, content_type = FORMS[form]
        body = render(found)
        headers = [content_type]
        if "gzip" in (request.header("accept-encoding") or ""):
            body = gzip.compress(body)
            headers.append(("content-encoding", "gzip"))
        return Answer(200, headers, body)

    async def write(self, writer, answer):
        if not self.pace or EVENT_STREAM not in answer.headers:
            return await super().write(writer, answer)
        head, _, body = answer.encode().partition(b"\r\n\r\n")
        for piece in [head + b"\r\n\r\n", *(body[at : at + 1] for at in range(len(body)))]:
            await asyncio.get_running_loop().run_in_executor(None, self.pace, len(piece))
            writer.write(piece)
            await writer.drain()

    @property
    def seen_ids(self):
        """The ids of each request that had some and opened no session."""
        bodies = (request.body for request in self.requests if b'"initialize"' not in request.body)
        return [found for body in bodies if (found := ids(body))]

    @contextlib.contextmanager
    def byte_by_byte(self, envoy):
        """Event streams go out so, and Envoy reads each byte before the next one goes."""
        goal = 0

        def read_all():
            name = "cluster.mcp_server.upstream_cx_rx_bytes_total"
            return envoy.stats(f"^{name}$")[name]

        def pace(length):
            nonlocal goal
            for _ in range(10_000):
                read = read_all()
                if read >= goal:
                    goal = read + length
                    return
            raise AssertionError(f"Envoy read {read} bytes of {goal}")

        self.pace = pace
        try:
            yield
        finally:
            self.pace = None
