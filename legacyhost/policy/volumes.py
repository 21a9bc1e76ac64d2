"""What a restricting rule says of volumes, whichever request makes them."""

from __future__ import annotations

from legacyhost.policy.limits import Limits
from legacyhost.policy.request import Check, Refusal, Request, look, pairs, text


def create(request: Request, limits: Limits) -> None:
    """POST /volumes/create. Raises Refusal."""
    checks: dict[str, Check] = {
        "name": lambda value: volume_name(limits, text(value, "Name")),
        "driver": lambda value: volume_driver(limits, text(value, "Driver")),
        "driveropts": lambda value: volume_options(limits, value),
        "labels": None,
    }
    look(request.members, "", checks)


def volume_name(limits: Limits, name: str) -> None:
    allowed = limits.patterns("volume", "names")
    if name and not allowed.fit(name):
        raise limits.refusal("the volume", name, "volume", "names")
    if not name and not allowed.fits_all:
        raise Refusal("does not allow a volume without a name")


def volume_driver(limits: Limits, name: str) -> None:
    """Raises Refusal; no name is Docker's own driver, local."""
    if not limits.patterns("volume", "drivers").fit(name or "local"):
        raise limits.refusal("the volume driver", name or "local", "volume", "drivers")


def volume_options(limits: Limits, value: object) -> None:
    """Options by name. Those of the driver local make any directory of the host a volume (o=bind). Raises Refusal."""
    for name in pairs(value, "the options of a volume"):
        if not limits.patterns("volume", "options").fit(name):
            raise limits.refusal("the volume option", name, "volume", "options")
