"""``legacyhost unstick``: whoever waits for a mount that is dead for good gets an error, the next start a new mount.

Done from the command line, not by the plugin: it has to work whatever state that is in.
"""

from __future__ import annotations

import time
from pathlib import Path

from legacyhost.config import Paths
from legacyhost.deadline import Deadline
from legacyhost.errors import Refused
from legacyhost.parts.volume import mounts_only

#: Seconds a mount gets to show that it is alive, and for being taken away.
PATIENCE, TAKING = 5.0, 30.0


def unstick(plugin: str, volume: str, paths: Paths, *, force: bool) -> str:
    """Take the volume's mount away, also from those who wait in it; what was done, for the user.

    A mount that answers, or is at work, is left alone unless ``force``. Raises Refused, Failed.
    """
    mounts = mounts_only(plugin, paths)
    mounts.refuse_if_covered(volume)
    is_mounted = mounts.source(volume) is not None
    users = sorted({user.process for user in mounts.users() if user.source and mounts.is_used_by(volume, user)})
    if not is_mounted and not users:
        return f"volume {volume} is not mounted, and nothing waits for it"
    if is_mounted and not force:
        asked, question = time.time(), mounts.ask(volume)
        if question.wait(PATIENCE) is not None:
            raise Refused(f"volume {volume} answers, nothing is stuck in it; --force takes its mount away all the same")
        question.give_up()
        if mounts.is_busy(volume, asked):
            raise Refused(f"volume {volume} is busy: what is being written is on its way; --force cuts that off")
    mounts.unstick(volume, Deadline.after(TAKING))
    done = f"the mount of volume {volume} is gone, and whoever waited for it has got an error"
    if users:
        done += "; to be restarted: " + ", ".join(_described(process) for process in users)
    return done


def _described(process: int) -> str:
    try:
        name = Path(f"/proc/{process}/comm").read_text(errors="replace").strip()
    except OSError:
        return f"process {process}, which has ended"
    return f"process {process} ({name})"
