"""One plugin put together from its configuration, kept up while the configuration or the state is mended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from legacyhost import config as configuration
from legacyhost import log
from legacyhost.advertised import LASTING, Advertised
from legacyhost.config import Config, ListenConfig, Paths
from legacyhost.errors import PluginError
from legacyhost.parts import Part
from legacyhost.rpc import Nobody, Plugin, Surface
from legacyhost.web import Callee, NotServingPlugin

#: Seconds between two attempts to open what could not be opened.
RETRY = 5.0
#: The sections of a configuration that are a part each.
SECTIONS = ("volume", "authz")
Served = list[tuple[Surface, object]]


class Host:
    """Keeps one plugin served: what answers now is ``current``, what systemd should show is ``status``."""

    def __init__(self, name: str, paths: Paths, retry: float = RETRY) -> None:
        """``retry``: seconds between two attempts to open what could not be opened."""
        self.name = name
        #: Told what a configuration that has been read says of the network.
        self.on_listen: Callable[[ListenConfig | None], None] = lambda _: None
        self._paths = paths
        self._pause = retry
        self._is_mended = threading.Event()
        #: Of these the second is never held while something is read.
        self._changing, self._assembling = threading.Lock(), threading.Lock()
        self._is_trying = False
        self._advertised = Advertised(paths.state / name)
        #: By section; those in ``_sections`` are what the configuration has now.
        self._parts: dict[str, Part] = {}
        self._sections: list[str] = []
        self._refused = ""
        self._served: tuple[Served, Served] | None = None
        self._said = ""
        self.current: Callee = NotServingPlugin(name, "it is starting")
        #: Called when the status is another one, from whichever thread has made it so.
        self.on_status: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Build the plugin; if that fails, say why and go on trying."""
        with self._changing:
            self._try(is_asked=True)
        self._go_on_trying()

    def reload(self) -> None:
        """Take over a changed configuration, or keep the old one and say why; where nothing is served, try again."""
        with self._changing:
            if self._is_trying:
                self._is_mended.set()
                return
            self._try(is_asked=True)
        self._go_on_trying()

    def finish(self) -> None:
        """Nothing is asked any more: the process ends."""
        for part in self._parts.values():
            part.finish()

    @property
    def status(self) -> str:
        current, refused = self.current, self._refused
        if isinstance(current, NotServingPlugin):
            return "starting" if self._served is None else f"not serving: {current.reason}"
        if not self._sections:
            return f"not serving: {refused} (until that is mended, every request is denied)"
        said = [self._parts[section].status for section in self._sections]
        if refused:
            said = [f"serving {self.name} with the old configuration: {refused}", *(said if len(said) > 1 else [])]
        return "; ".join(said)

    def _try(self, *, is_asked: bool) -> None:
        """Take over the configuration as it is; without being asked, only what does not serve.

        Who calls has the lock for changes.
        """
        path = self._paths.configuration(self.name)
        try:
            config = configuration.load(path)
        except PluginError as error:
            self._refuse(error.message, is_asked=is_asked)
        else:
            self.on_listen(config.listen)
            self._take_over(config, path, is_asked=is_asked)
        self._assemble()
        self.on_status()

    def _refuse(self, reason: str, *, is_asked: bool) -> None:
        """A configuration is not taken over, or a part of it; what serves goes on."""
        self._refused = reason
        if self._is_whole() and is_asked:
            log.event(log.ERROR, f"the configuration is not taken over: {reason}")

    def _take_over(self, config: Config, path: Path, *, is_asked: bool) -> None:
        sections = [section for section in SECTIONS if getattr(config, section) is not None]
        for gone in {*self._sections} - {*sections}:
            self._parts[gone].rest()
        was_serving, refused = self._is_whole(), []
        for section in sections:
            part = self._part(section)
            if not is_asked and section in self._sections and part.is_settled:
                continue
            reason = part.take_over(config, is_asked=is_asked)
            if reason and not part.trouble:
                refused.append(reason)
        self._sections, self._refused = sections, ""
        if refused:
            self._refuse("; ".join(refused), is_asked=is_asked)
        elif self._is_whole() and (is_asked or not was_serving):
            log.set_level(config.log_level)
            said = f"the configuration {path} is taken over" if was_serving else f"plugin {self.name} is serving"
            log.event(log.INFO, said)

    def _part(self, section: str) -> Part:
        """What a configuration without the section never uses is not loaded."""
        if section not in self._parts:
            if section == "volume":
                from legacyhost.parts.volume import VolumePart

                self._parts[section] = VolumePart(self.name, self._paths, self._lost)
            else:
                from legacyhost.parts.authz import AuthzPart

                self._parts[section] = AuthzPart(self.name, self._paths, self._say_status)
        return self._parts[section]

    def _is_whole(self) -> bool:
        return bool(self._sections) and not any(self._parts[section].trouble for section in self._sections)

    def _is_settled(self) -> bool:
        return bool(self._sections) and all(self._parts[section].is_settled for section in self._sections)

    def _assemble(self) -> None:
        """What answers from now on: the parts as they are, and what engines were told of before."""
        names = self._advertised.names()
        known = self._advertised.known(names)
        with self._assembling:
            parts = [self._parts[section] for section in self._sections]
            served = [(part.surface, part.implementation) for part in parts]
            if not parts and LASTING in names:
                served = _left(names, self._refused)
            gone = [name for name in known if name not in {surface.implements for surface, _ in served}]
            hidden = _left(gone, f"{self.name}.toml has no section for this any more")
            is_out = all(isinstance(one, Nobody) for _, one in served)
            reason = self._refused or next((part.trouble for part in parts if part.trouble), "")
            self._say_not_serving(reason, is_all=is_out)
            if is_out:
                self._served, self.current = ([], []), NotServingPlugin(self.name, reason)
            elif (served, hidden) != self._served:
                self._served = (served, hidden)
                self.current = Plugin(self.name, served, hidden, self._advertised.record)

    def _say_not_serving(self, reason: str, *, is_all: bool) -> None:
        """Once for each reason."""
        said = "" if self._is_whole() else reason
        if said and said != self._said:
            what = "" if is_all or not self._sections else " volumes"
            log.event(log.ERROR, f"plugin {self.name} is not serving{what}: {said}")
        self._said = said

    def _say_status(self) -> None:
        self.on_status()

    def _lost(self) -> None:
        """A part cannot serve any more; said from within a call, which gets no answer."""
        self._assemble()
        self.on_status()
        self._is_mended.set()  # the first attempt, at once, finds out what can be done
        self._go_on_trying()

    def _go_on_trying(self) -> None:
        with self._assembling:
            if self._is_trying or self._is_settled():
                return
            self._is_trying = True
        threading.Thread(target=self._retry, name="retry", daemon=True).start()

    def _retry(self) -> None:
        while self._is_trying:
            is_asked = self._is_mended.wait(self._pause)
            self._is_mended.clear()
            with self._changing:
                self._try(is_asked=is_asked)
                with self._assembling:  # a reload that has come meanwhile has left it to this thread
                    self._is_trying = self._is_mended.is_set() or not self._is_settled()


def _left(names: Sequence[str], reason: str) -> Served:
    """What stands behind surfaces that an engine was told of, and for which there is no part."""
    left: Served = []
    for name in names:
        if name == "VolumeDriver":
            from legacyhost.surfaces import volume

            left.append((volume.SURFACE, Nobody(reason)))
        if name == LASTING:
            from legacyhost.authorizer import Refusal
            from legacyhost.surfaces import authz

            left.append((authz.SURFACE, Refusal(f"the plugin cannot decide: {reason}")))
    return left
