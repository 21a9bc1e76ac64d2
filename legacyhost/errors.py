"""What can go wrong, divided by what the caller can do about it.

Every message is one sentence for the person who typed ``docker``: what failed, why, what to do. No secret,
no Python name, no line break. The boundary that turns these into HTTP is legacyhost/web.py.
"""


class PluginError(Exception):
    """Base of everything this software says to a user; ``status`` is the HTTP status of the reply."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidRequest(PluginError):
    """The request itself is wrong (a missing field, a wrong type, a bad name or option): ask differently."""

    status = 400


class UnknownMethod(PluginError):
    """There is no such RPC. The only 404 there is: Docker takes 404 for "not implemented" (moby plugins/client.go)."""

    status = 404


class TooLarge(PluginError):
    """The request body is larger than any real request."""

    status = 413


class NoSuchVolume(PluginError):
    """No volume of that name is known."""


class Refused(PluginError):
    """Well-formed, but not as things stand (in use, exists with other options): change something first."""


class Failed(PluginError):
    """Something outside failed (the remote host, sshfs, the disk): mend that, then try again."""


class NotServing(PluginError):
    """The truth is not known here (unreadable state), so no answer may be given.

    Docker takes an answered error to Get for "that volume is gone" and forgets it (moby volume/service/store.go);
    a connection closed without a reply it only retries. So this one closes the connection.
    """


class ConfigError(PluginError):
    """The configuration on this host is missing or wrong."""


class StateError(PluginError):
    """The recorded volumes cannot be read, or a change could not be made durable."""
