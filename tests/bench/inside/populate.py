"""Many volumes in a plugin's own record, without a call for each."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path


def legacyhost(directory: str, count: str, like: str, name: str, stuck: str, port: str) -> int:
    """As many volumes ``v0`` … as the volume of that name in another record, and ``stuck0`` … on another port."""
    from legacyhost.state import State, Volume, now

    with closing(sqlite3.connect(f"file:{like}?mode=ro", uri=True)) as record:
        row = record.execute("SELECT options, facts FROM volumes WHERE name = ?", (name,)).fetchone()
    options, facts = json.loads(row[0]), json.loads(row[1])
    Path(directory).mkdir(mode=0o700, parents=True)
    state = State(Path(directory))
    for number in range(int(count)):
        state.add(Volume(f"v{number}", options, now(), facts))
    for number in range(int(stuck)):
        state.add(Volume(f"stuck{number}", {**options, "port": port, "timeout": "30"}, now(), facts))
    state.close()
    return int(count)


def rclone(path: str, count: str, base: str) -> int:
    """The same in rclone's form, on a local directory: for one on a host it would connect at its start."""
    common = {"created": "2026-01-01T00:00:00Z", "fs": "/srv", "options": {}, "mounts": []}
    volumes = [{"name": f"v{number}", "mountpoint": f"{base}/v{number}", **common} for number in range(int(count))]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(volumes), "utf-8")
    return int(count)
