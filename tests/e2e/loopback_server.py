"""A TCP server on a free loopback port, in a thread of its own."""

import asyncio
import contextlib
import threading


class LoopbackServer:
    """Subclasses say in `serve` what happens on a connection. `changed` guards what both threads see."""

    def __init__(self):
        self.changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self.listen_again()
        self.port = self._server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        raise NotImplementedError

    async def _connected(self, reader, writer):
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await self.serve(reader, writer)

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def listen_again(self):
        self._server = self._run(asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=1 << 20))

    def stop_listening(self):
        """Nobody can connect any more, and all connections end."""
        self._run(self._end())

    async def _end(self):
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wait_until(self, condition, timeout=20):
        """Waits until the condition holds; it is looked at again after each change."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), f"not within {timeout} s: {self}"

    def close(self):
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
