"""The official Python client, SDK 1 or 2, that calls a tool for each line "TOOL MESSAGE" on its input: URL

It knows nothing of restarts: one session, opened once. Each call ends in a line, "answered MESSAGE" or "failed MESSAGE: why".
"""

import asyncio
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

PATIENCE = 15


async def call(session, tool, message):
    try:
        called = await asyncio.wait_for(session.call_tool(tool, {"message": message}), PATIENCE)
    # Whatever it is, the next call is made all the same.
    except Exception as failure:
        return f"failed {message}: {str(failure) or type(failure).__name__}"
    text = called.content[0].text
    return f"answered {message}" if text == f"Echo: {message}" else f"failed {message}: {text}"


async def main(url):
    async with streamable_http_client(url) as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        print("ready", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            said = await call(session, *line.split(" ", 1))
            print(" ".join(said.split()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
