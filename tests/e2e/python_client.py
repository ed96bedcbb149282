"""A fixed session of the official Python client, SDK 1 or 2: python_client.py URL [auto]

It waits for a line on its input before it ends the session, so that its event stream is sure to be open by then.
"""

import asyncio
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def run_with_handshake(url):
    async with streamable_http_client(url) as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        await use(session)


async def run_as_the_client_likes(url):
    from mcp import Client

    async with Client(url, mode="auto") as client:
        await use(client)


async def use(session):
    tools = await session.list_tools()
    assert "echo" in [tool.name for tool in tools.tools]
    for words in ("one", "two"):
        called = await session.call_tool("echo", {"message": words})
        assert called.content[0].text == f"Echo: {words}", called
    print("used", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(run_as_the_client_likes(sys.argv[1]) if "auto" in sys.argv[2:] else run_with_handshake(sys.argv[1]))
