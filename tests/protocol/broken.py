"""Plugins that do one thing wrong each, as real ones did or do. test_notices.py says which case sees it."""

from __future__ import annotations

import subprocess

from . import mountinfo
from .reference import Message, Reference, Refusal, Volume


class IdsInASet(Reference):
    """docker-volume-sshfs, ECS agent (moby#34665): the same ID twice counts once."""

    def mount(self, ask: Message) -> Message:
        reply = super().mount(ask)
        self.volumes[ask["Name"]].holds[ask.get("ID", "")] = 1
        return reply


class NoCounts(Reference):
    """The first Unmount unmounts, whoever else holds the volume."""

    def unmount(self, ask: Message) -> Message:
        if volume := self.volumes.get(self.name(ask)):
            volume.holds.clear()
            self.detach(volume)
        return {}


class CountOnly(Reference):
    """One number per volume: any Unmount, known or not, takes one away."""

    def unmount(self, ask: Message) -> Message:
        volume = self.volumes.get(self.name(ask))
        if volume and volume.holds.total():
            ask = {**ask, "ID": next(iter(volume.holds.elements()))}
        return super().unmount(ask)


class NeedsId(Reference):
    """Knows nothing of Docker before 1.12."""

    def mount(self, ask: Message) -> Message:
        if not ask.get("ID"):
            raise Refusal("no ID", 400)
        return super().mount(ask)


class KnowsItsIds(Reference):
    """rclone: an unknown ID cannot be unmounted."""

    def unmount(self, ask: Message) -> Message:
        if not self.volume(ask).holds[ask.get("ID", "")]:
            raise Refusal("volume is not mounted by this id")
        return super().unmount(ask)


class RepeatedIdIsAnError(Reference):
    """rclone: the same ID cannot mount twice."""

    def mount(self, ask: Message) -> Message:
        if self.volume(ask).holds[ask.get("ID", "")]:
            raise Refusal("volume is already mounted by this id")
        return super().mount(ask)


class InUseUntilUnmounted(Reference):
    """rclone: a hold that nobody will ever release keeps the volume for good."""

    def remove(self, ask: Message) -> Message:
        if self.volume(ask).holds.total():
            raise Refusal("volume is in use")
        return super().remove(ask)


class MountsNothing(Reference):
    """Mount is answered with a directory where nothing is mounted (yet, or any more)."""

    def attach(self, volume: Volume) -> None:
        volume.mountpoint.mkdir(exist_ok=True)


class NeverUnmounts(Reference):
    """Unmount is answered, and the mount is still there."""

    def unmount(self, ask: Message) -> Message:
        volume = self.volumes.get(self.name(ask))
        if volume and volume.holds[ask.get("ID", "")]:
            volume.holds[ask.get("ID", "")] -= 1
        return {}


class MountsOverAMount(Reference):
    """Each Mount stacks another one."""

    def mount(self, ask: Message) -> Message:
        volume = self.volume(ask)
        if mountinfo.count(str(volume.mountpoint)):
            self.attach(volume)
        return super().mount(ask)


class ForgetsAtHandshake(Reference):
    """Takes the handshake for a restart of Docker that ended all containers."""

    def activate(self, ask: Message) -> Message:
        for volume in self.volumes.values():
            volume.holds.clear()
            self.detach(volume)
        return super().activate(ask)


class CreatesOnce(Reference):
    """An existing volume cannot be created again."""

    def create(self, ask: Message) -> Message:
        if ask.get("Name") in self.volumes:
            raise Refusal("volume exists")
        return super().create(ask)


class CreateIgnoresOptions(Reference):
    """rclone: Create of an existing volume succeeds, whatever it asks for."""

    def create(self, ask: Message) -> Message:
        return {} if ask.get("Name") in self.volumes else super().create(ask)


class CreateStartsAnew(Reference):
    """docker-volume-sshfs: Create again resets who holds the volume."""

    def create(self, ask: Message) -> Message:
        known = self.volumes.pop(self.name(ask), None)
        if known and not ask.get("Opts"):
            ask = {**ask, "Opts": known.opts}
        return super().create(ask)


class RemovePurges(Reference):
    """Remove deletes through the mount."""

    def remove(self, ask: Message) -> Message:
        subprocess.run(["find", self.volume(ask).opts["dir"], "-mindepth", "1", "-delete"], check=True)
        return super().remove(ask)


class KnowsEveryName(Reference):
    """Get has an answer for any name: other plugins' volumes are taken over."""

    def get(self, ask: Message) -> Message:
        name = self.name(ask)
        return super().get(ask) if name in self.volumes else {"Volume": {"Name": name, "Mountpoint": ""}}


class TakesAnyName(Reference):
    """rclone: no look at the name before it becomes a path."""

    def name(self, ask: Message) -> str:
        if not isinstance(ask.get("Name"), str) or not isinstance(ask.get("ID", ""), str) or not ask["Name"]:
            raise Refusal("no name", 400)
        return str(ask["Name"])


class RepeatsItself(Reference):
    """A request without content does what the last one did."""

    last: Message = {"Name": "lhtest-nothing"}  # noqa: RUF012 - replaced, never changed

    def request(self, body: bytes) -> Message:
        value = super().request(body)
        self.last = value if "Name" in value else self.last
        return {**self.last, **value}


class DateLikePython(Reference):
    """CreatedAt as str(datetime) gives it: no T (Docker fails the whole Get)."""

    def get(self, ask: Message) -> Message:
        reply = super().get(ask)
        reply["Volume"]["CreatedAt"] = reply["Volume"]["CreatedAt"].replace("T", " ")
        return reply


class StatusIsAList(Reference):
    """Docker fails the whole Get."""

    def get(self, ask: Message) -> Message:
        reply = super().get(ask)
        reply["Volume"]["Status"] = ["fine"]
        return reply


class OtherSpelling(Reference):
    """Get echoes another name than it was asked for."""

    def get(self, ask: Message) -> Message:
        reply = super().get(ask)
        reply["Volume"]["Name"] = reply["Volume"]["Name"].upper()
        return reply


class AnswersInTwoLines(Reference):
    """An error text that is more than one line."""

    def volume(self, ask: Message) -> Volume:
        if ask.get("Name") not in self.volumes:
            raise Refusal("Traceback (most recent call last):\n  no such volume")
        return super().volume(ask)


class NotFound(Reference):
    """REST habits: 404 for a volume that is not there."""

    def volume(self, ask: Message) -> Volume:
        if ask.get("Name") not in self.volumes:
            raise Refusal("no such volume", 404)
        return super().volume(ask)


class HandshakeOnlyWhenEmpty(Reference):
    """Knows nothing of Docker before 1.10, which sends null."""

    def answer(self, rpc: str, body: bytes) -> Message:
        if rpc == "Plugin.Activate" and body:
            raise Refusal("unexpected body", 400)
        return super().answer(rpc, body)
