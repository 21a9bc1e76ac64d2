"""The part of a plugin that authorizes requests: it always serves, for without a policy it denies, and says why."""

from __future__ import annotations

from collections.abc import Callable

from legacyhost import policysource
from legacyhost.authorizer import Authorizer, Settings
from legacyhost.config import NO_VOLUMES, AuthzConfig, Config, Paths
from legacyhost.errors import PluginError
from legacyhost.policies import Policies
from legacyhost.surfaces.authz import SURFACE


class AuthzPart:
    """Requests to Docker, by the section [authz]."""

    surface = SURFACE
    trouble = ""

    def __init__(self, name: str, paths: Paths, changed: Callable[[], None]) -> None:
        """``changed`` is called when the status is another one."""
        self._name = name
        self._paths = paths
        self._policies = Policies(changed=changed)
        self._taken: object = None
        self._authorizer = Authorizer(name, self._policies, Settings())

    @property
    def implementation(self) -> object:
        return self._authorizer

    @property
    def is_settled(self) -> bool:
        return self._policies.in_force.policy is not None

    @property
    def status(self) -> str:
        dry = " (dry run: nothing is denied)" if self._authorizer.settings.dry_run else ""
        return f"{self._policies.status}{dry}"

    def take_over(self, config: Config, *, is_asked: bool) -> str:
        """What is wrong with the policy is no reason not to serve."""
        section, remotes = config.authz or AuthzConfig(), (config.volume or NO_VOLUMES).remote
        if not is_asked and (section, remotes) == self._taken:
            return ""  # what it names is being tried
        self._taken = (section, remotes)
        self._authorizer.settings = Settings(section.dry_run, section.log)
        try:
            self._policies.follow(policysource.source(self._name, section, remotes, self._paths))
        except PluginError as error:
            self._policies.refuse(error.message)
        return ""

    def rest(self) -> None:
        self._policies.refuse("there is no section [authz] any more")

    def finish(self) -> None:
        """Nothing is kept but what is kept already."""
