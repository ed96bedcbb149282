"""HTTP/1.1 messages as they are on the wire: read whole, with every header line kept."""

import asyncio
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Message:
    """A request or an answer. Text is latin-1, so that every byte survives."""

    first_line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def method(self):
        return self.first_line.split(" ")[0]

    @property
    def path(self):
        return self.first_line.split(" ")[1]

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name):
        """The only value of this header; None without one."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


async def read_message(reader, is_answer=False):
    """The next message, or None at the end of the stream. Whoever leaves an event stream cuts its answer short."""
    head = await read_head(reader)
    return head and await read_body(reader, head, is_answer)


async def read_head(reader):
    """The next message without its body, or None at the end of the stream."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    first_line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    return Message(first_line, headers, b"")


async def read_body(reader, head, is_answer=False):
    """The message that this is the head of."""
    names = {name.lower(): value for name, value in head.headers}
    if "chunked" in names.get("transfer-encoding", ""):
        body = await read_chunks(reader, may_end_early=is_answer)
    elif length := names.get("content-length"):
        body = await reader.readexactly(int(length))
    elif is_answer and head.first_line.split(" ")[1] not in ("204", "304"):
        body = await reader.read()
    else:
        body = b""
    return replace(head, body=body)


async def read_chunks(reader, may_end_early):
    pieces = []
    try:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    except asyncio.IncompleteReadError:
        if not may_end_early:
            raise
    return b"".join(pieces)
