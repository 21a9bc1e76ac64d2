"""The part of a plugin that authorizes requests: it always serves, for without a policy it denies, and says why."""

from __future__ import annotations

from legacyhost import policysource
from legacyhost.authorizer import Authorizer, Settings
from legacyhost.config import AuthzConfig, Config, Paths
from legacyhost.errors import PluginError
from legacyhost.policies import Policies
from legacyhost.surfaces.authz import SURFACE


class AuthzPart:
    """Requests to Docker, by the section [authz]."""

    surface = SURFACE
    trouble = ""

    def __init__(self, name: str, paths: Paths) -> None:
        self._name = name
        self._paths = paths
        self._policies = Policies()
        self._authorizer = Authorizer(name, self._policies, Settings())

    @property
    def implementation(self) -> object:
        return self._authorizer

    @property
    def status(self) -> str:
        dry = " (dry run: nothing is denied)" if self._authorizer.settings.dry_run else ""
        return f"{self._policies.status}{dry}"

    def take_over(self, config: Config) -> str:
        """What is wrong with the policy is no reason not to serve."""
        section = config.authz or AuthzConfig()
        self._authorizer.settings = Settings(section.dry_run, section.log)
        remotes = config.volume.remote if config.volume else {}
        try:
            self._policies.follow(policysource.source(self._name, section, remotes, self._paths))
        except PluginError as error:
            self._policies.refuse(error.message)
        return ""

    def rest(self) -> None:
        self._policies.refuse("there is no section [authz] any more")
