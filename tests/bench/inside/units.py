"""Units in which Python only begins: what a mount takes before anything is done, with its sandbox and without."""

from __future__ import annotations

import secrets
import threading
import time

from legacyhost.deadline import Deadline
from legacyhost.mounts import properties
from legacyhost.mounts.manager import Manager

BEGIN = ("/usr/bin/python3", "-I", "-S", "/dev/null")


def start(count: str, sandbox: str) -> float:
    """Milliseconds until so many, asked for at once, have begun and ended."""
    manager, failures = Manager(), []

    def one() -> None:
        made = [("Type", ("s", "oneshot")), ("CollectMode", ("s", "inactive-or-failed"))]
        made += properties.MOUNT_SANDBOX if sandbox == "sandbox" else []
        made += properties.program(BEGIN[0], BEGIN, {})
        try:
            manager.start(f"begin-{secrets.token_hex(8)}.service", made, Deadline.after(60))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing has been measured
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(int(count))]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    return 1000 * (time.perf_counter() - begin)
