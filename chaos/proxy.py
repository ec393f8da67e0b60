"""``python -m chaos.proxy PORT TARGET``: a TCP proxy that cuts its connections, with a reset or without a word.

SIGUSR1 resets all connections that there are. After SIGUSR2 they carry nothing more and neither end is told, as when a
firewall forgets them. New ones can be made at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import sys
from typing import Any

#: Seconds for which both ends of a silent connection are left to believe in it.
SILENCE = 20.0
#: Bytes read at a time.
CHUNK = 65536


class Proxy:
    """Carries bytes between clients and a server.

    Args:
        target: the server's port on this machine.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._connections: set[Connection] = set()

    async def listen(self, port: int) -> None:
        """Listen on a port of 127.0.0.1 for ever."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.reset)
        loop.add_signal_handler(signal.SIGUSR2, self.silence)
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        await server.serve_forever()

    def reset(self) -> None:
        """Reset all connections."""
        for each in list(self._connections):
            each.reset()

    def silence(self) -> None:
        """Carry nothing more through the connections that there are."""
        for each in self._connections:
            if not each.silent:
                each.silent = True
                asyncio.get_running_loop().call_later(SILENCE, each.reset)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            reset(writer)
            return
        connection = Connection(writer, there[1])
        self._connections.add(connection)
        await asyncio.gather(connection.carry(reader, there[1]), connection.carry(there[0], writer))
        self._connections.discard(connection)


class Connection:
    """One connection through the proxy.

    Args:
        writers: to both ends.
    """

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.silent = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction to its end, which is that of the other one, too."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if not self.silent:
                    writer.write(data)
                    await writer.drain()
        if not self.silent:
            for each in self.writers:
                each.close()

    def reset(self) -> None:
        """Reset both ends."""
        for each in self.writers:
            reset(each)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side is told it was reset."""
    end: Any = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(Proxy(int(sys.argv[2])).listen(int(sys.argv[1])))
