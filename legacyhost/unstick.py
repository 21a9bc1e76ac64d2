"""``legacyhost unstick``: whoever waits for a mount that is dead for good gets an error, the next start a new mount.

Done from the command line, not by the plugin: it has to work whatever state that is in.
"""

from __future__ import annotations

import time
from pathlib import Path

from legacyhost.config import Paths
from legacyhost.deadline import Deadline
from legacyhost.errors import Refused
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.plugin import build_mounter, last_used

#: Seconds a mount gets to show that it is alive, and for being taken away.
PATIENCE, TAKING = 5.0, 30.0
#: Seconds in which the question itself may be what was sent.
OWN = 1.0


def unstick(plugin: str, volume: str, paths: Paths, *, force: bool) -> str:
    """Take the volume's mount away, also from those who wait in it; what was done, for the user.

    A mount that answers, or is at work, is left alone unless ``force``. Raises Refused, Failed.
    """
    mountpoints = HostMountpoints(paths.run / plugin)
    mounter = build_mounter(plugin, paths)
    source, path = mountpoints.source(volume), mountpoints.path(volume)
    if source is not None and not mounter.is_ours(volume, source):
        raise Refused(f"something else is mounted where volume {volume} belongs; undo it: umount {path}")
    users = sorted({user.process for user in mounter.users() if mounter.is_ours(volume, user.source)})
    if source is None and not users:
        return f"volume {volume} is not mounted, and nothing waits for it"
    if source is not None and not force:
        asked, question = time.time(), mountpoints.ask(volume)
        if question.wait(PATIENCE) is not None:
            raise Refused(f"volume {volume} answers, nothing is stuck in it; --force takes its mount away all the same")
        question.give_up()
        if last_used(plugin, volume, source, paths) > asked + OWN:
            raise Refused(f"volume {volume} is busy: what is being written is on its way; --force cuts that off")
    mounter.unstick(volume, path, Deadline.after(TAKING))
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
