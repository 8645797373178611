"""A listening socket that can be closed and opened again on the same port."""

from __future__ import annotations

import asyncio
import socket

from distributor.api.protocol import UNSENT, EdgeServer

__all__ = ["Listener"]

BACKLOG = 4096


class Listener:
    """Where one EdgeServer gets its connections from.

    port  0: the system chooses at the first opening, and it stays with that
    """

    def __init__(self, server: EdgeServer, host: str, port: int) -> None:
        self.server = server
        self._host = host
        self._port = port
        self._listening: asyncio.AbstractServer | None = None

    @property
    def open(self) -> bool:
        return self._listening is not None

    @property
    def url(self) -> str:
        """http://host:port, the port that is really listened on."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def listen(self) -> None:
        """Accept connections from now on. Raises OSError."""
        if self._listening is not None:
            return
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(self.server, self._host, self._port, backlog=BACKLOG)
        for one in listening.sockets:
            # Its connections inherit this.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._port = listening.sockets[0].getsockname()[1]
        self._listening = listening

    def close(self) -> None:
        """Accept no more; connections that are open stay."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
