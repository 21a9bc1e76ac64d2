"""A TCP proxy that delays: ``delay.py PORT TARGET MILLISECONDS`` each way, without a limit to what is on the way.

Emulates a line with a round trip where the kernel has no netem. As much is on the way as TCP would have there with its
windows grown, so it delays and does not throttle.
"""

from __future__ import annotations

import collections
import socket
import sys
import threading
import time

CHUNK = 1 << 18
#: Bytes on the way, in each direction: more than a gigabit with a round trip of 100 ms.
WINDOW = 16 << 20


def carry(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Everything that comes from one to the other, that much later."""
    queue: collections.deque[tuple[float, bytes]] = collections.deque()
    changed, size = threading.Condition(), [0]

    def receive() -> None:
        while True:
            try:
                data = source.recv(CHUNK)
            except OSError:
                data = b""
            with changed:
                changed.wait_for(lambda: size[0] < WINDOW)
                queue.append((time.monotonic() + seconds, data))
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


def main(port: int, target: int, milliseconds: float) -> None:
    """Serve until it is ended."""
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        while True:
            client, _ = listener.accept()
            host = socket.create_connection(("127.0.0.1", target))
            for one, other in ((client, host), (host, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=carry, args=(one, other, milliseconds / 1000), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
