"""Many clients in one thread that compare every byte they get, as fast as memory allows."""

from __future__ import annotations

import re
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

PIECE = 1 << 20


@dataclass
class Result:
    """seconds: until the last byte of the last client; first: first body byte of each, seconds."""

    seconds: float = 0.0
    answers: int = 0
    wrong: int = 0
    states: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)
    bytes: int = 0


@dataclass
class _Client:
    sock: socket.socket
    head: bytes = b""
    at: int = -1  # -1: still in the head
    length: int = 0


def ask_all(port: int, target: str, clients: int, expected: bytes, *, timeout: float = 90.0) -> Result:
    """Each client opens a connection, then all send the same GET at once; bodies must equal `expected`.

    Who has no whole body after `timeout` seconds counts as wrong.
    """
    result = Result()
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    poll = select.epoll()
    alive: dict[int, _Client] = {}
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port), timeout)
        sock.setblocking(False)
        alive[sock.fileno()] = _Client(sock)
        poll.register(sock, select.EPOLLIN)
    began = time.monotonic()
    for client in alive.values():
        client.sock.send(request)
    while alive:
        if time.monotonic() - began > timeout:
            result.wrong += len(alive)
            break
        for number, _ in poll.poll(1.0):
            client = alive[number]
            if _read(client, expected, result, began):
                poll.unregister(number)
                client.sock.close()
                del alive[number]
    result.seconds = time.monotonic() - began
    for client in alive.values():
        client.sock.close()
    poll.close()
    return result


def _read(client: _Client, expected: bytes, result: Result, began: float) -> bool:
    """Take what came; True once this client is done, well or badly."""
    try:
        data = client.sock.recv(PIECE)
    except BlockingIOError:
        return False
    except ConnectionError:
        data = b""
    if not data:
        result.wrong += 1
        return True
    if client.at < 0:
        client.head += data
        head, blank, data = client.head.partition(b"\r\n\r\n")
        if not blank:
            return False
        text = head.decode("latin-1")
        length = re.search(r"(?i)\r\ncontent-length: *(\d+)", text)
        state = re.search(r"(?i)\r\nx-cache: *(\w+)", text)
        result.states[state[1] if state else text[9:12]] += 1
        client.at, client.length = 0, int(length[1]) if length else len(expected)
        if not text.startswith("HTTP/1.1 200") or client.length != len(expected):
            result.wrong += 1
            return True
    if data:
        if client.at == 0:
            result.first.append(time.monotonic() - began)
        if not expected.startswith(data, client.at):
            result.wrong += 1
            return True
        client.at += len(data)
        result.bytes += len(data)
    if client.at >= client.length:
        result.answers += 1
        return True
    return False
