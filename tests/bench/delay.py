"""A TCP proxy that delays: ``delay.py PORT TARGET MILLISECONDS RATE`` each way; 10^6 bytes a second, 0 for no limit.

Emulates a line with a round trip where the kernel has no netem. As much is on the way as TCP would have there with its
windows grown. With a rate it is a router without queue management: all connections of a direction wait in one queue.
"""

from __future__ import annotations

import collections
import socket
import sys
import threading
import time

CHUNK = 1 << 18
#: What a connection puts into the queue of a router at a time: little, so that they take turns there.
PIECE = 1 << 14
#: Bytes on the way, in each direction: more than a gigabit with a round trip of 100 ms.
WINDOW = 16 << 20
#: Bytes that wait in the router, in each direction.
QUEUE = 1 << 18


class Bottleneck:
    """What all connections of one direction go through: so many bytes a second, first come, first served."""

    def __init__(self, rate: float) -> None:
        self._rate, self._changing, self._is_empty_at = rate, threading.Lock(), 0.0

    def depart(self, now: float, size: int) -> float:
        """When the last of so many bytes that come now has left."""
        with self._changing:
            self._is_empty_at = max(now, self._is_empty_at) + size / self._rate
            return self._is_empty_at

    def enter(self, size: int) -> float:
        """The same; returns when the queue has room for them."""
        departure = self.depart(time.monotonic(), size)
        if (early := departure - QUEUE / self._rate - time.monotonic()) > 0:
            time.sleep(early)
        return departure


def carry(source: socket.socket, target: socket.socket, seconds: float, bottleneck: Bottleneck | None) -> None:
    """Everything that comes from one to the other, that much later."""
    queue: collections.deque[tuple[float, bytes]] = collections.deque()
    changed, size = threading.Condition(), [0]

    def receive() -> None:
        while True:
            try:
                data = source.recv(PIECE if bottleneck else CHUNK)
            except OSError:
                data = b""
            left = bottleneck.enter(len(data)) if bottleneck else time.monotonic()
            with changed:
                changed.wait_for(lambda: size[0] < WINDOW)
                queue.append((left + seconds, data))
                size[0] += len(data)
                changed.notify_all()
            if not data:
                return

    threading.Thread(target=receive, daemon=True).start()
    while True:
        with changed:
            changed.wait_for(lambda: bool(queue))
            due, data = queue.popleft()
            size[0] -= len(data)
            changed.notify_all()
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        try:
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)
        except OSError:
            source.close()
            return


def main(port: int, target: int, milliseconds: float, rate: float) -> None:
    """Serve until it is ended."""
    there, back = (Bottleneck(rate * 1e6) if rate else None for _ in range(2))
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        while True:
            client, _ = listener.accept()
            host = socket.create_connection(("127.0.0.1", target))
            for one, other, bottleneck in ((client, host, there), (host, client, back)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                arguments = (one, other, milliseconds / 1000, bottleneck)
                threading.Thread(target=carry, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
