"""``python -m chaos.proxy PORT TARGET``: a TCP proxy that cuts its connections, with a reset or without a word.

SIGUSR1 resets all connections that there are. After SIGUSR2 they carry nothing more and neither end is told, as when a
firewall forgets them. New ones can be made at once.

With further arguments ``REPLICA=SECONDS`` a replica that says it is at that port gets what its master sends so much
later, and what is on its way when the master dies not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tests.processes import ROOT, die_with_parent

#: Seconds for which both ends of a silent connection are left to believe in it.
SILENCE = 20.0
#: Bytes read at a time.
CHUNK = 65536
#: How a replica says where it is.
REPLICA = re.compile(rb"listening-port\r\n\$\d+\r\n(\d+)\r\n")


class Proxy:
    """Carries bytes between clients and a server.

    Args:
        target: the server's port on this machine.
        lags: seconds by which it reaches replicas later, by their ports.
    """

    def __init__(self, target: int, lags: Mapping[int, float]) -> None:
        self.target = target
        self.lags = lags
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
        await asyncio.gather(connection.carry(reader, there[1], self.lags), connection.carry(there[0], writer))
        self._connections.discard(connection)


class Connection:
    """One connection through the proxy.

    Args:
        writers: to both ends.
    """

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.silent = False
        self.lag = 0.0

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lags: Mapping[int, float] | None = None
    ) -> None:
        """Carry one direction to its end, which is that of the other one, too.

        Args:
            lags: in the client's direction; see ``Proxy``.
        """
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if lags and (replica := REPLICA.search(data)):
                    self.lag = lags.get(int(replica[1]), 0.0)
                if self.lag and lags is None:
                    asyncio.get_running_loop().call_later(self.lag, self._arrive, writer, data)
                elif not self.silent:
                    writer.write(data)
                    await writer.drain()
        if not self.silent:
            for each in self.writers:
                each.close()

    def _arrive(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not (self.silent or writer.is_closing()):
            writer.write(data)

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


@contextlib.contextmanager
def proxied(port: int, target: int, lags: Mapping[int, float] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a proxy in a process of its own; see ``Proxy``."""
    late = [f"{replica}={seconds}" for replica, seconds in (lags or {}).items()]
    command = [sys.executable, "-m", "chaos.proxy", str(port), str(target), *late]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    own, to, *late = sys.argv[1:]
    given = {int(port): float(seconds) for port, _, seconds in (each.partition("=") for each in late)}
    asyncio.run(Proxy(int(to), given).listen(int(own)))
