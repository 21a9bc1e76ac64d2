"""What can come next on a command line, for the completions of the shells (packaging/completion).

They call ``legacyhost __complete`` with the words behind ``legacyhost``, the last one being what is typed so far, and
get a candidate on each line, with a tab and what it means where there is something to say; or only ``/``, where names
of files are wanted. It is over after two seconds, and never an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence

from legacyhost.config import Paths
from legacyhost.errors import PluginError
from legacyhost.names import is_name

#: Seconds.
PATIENCE = 2.0
#: The one candidate that stands for the names of files.
FILES = "/"


def complete(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Print the candidates for the last of the words."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    typed = words[-1] if words else ""
    for candidate, meaning in candidates(parser, words[:-1], "" if typed == "=" else typed):
        print(f"{candidate}\t{meaning}" if meaning else candidate)
    sys.stdout.flush()
    return 0


def candidates(parser: argparse.ArgumentParser, before: Iterable[str], typed: str) -> list[tuple[str, str]]:
    """What can stand in place of ``typed`` behind the words ``before``, and what each is."""
    given: dict[str, str] = {}
    left = _positionals(parser)
    wanting: argparse.Action | None = None  # an option whose value comes next
    for word in before:
        options = parser._option_string_actions
        if wanting is not None:
            if word != "=":  # bash makes three words of --plugin=foo
                given[wanting.dest], wanting = word, None
        elif word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            action = options.get(name)
            if action is not None and equals:
                given[action.dest] = value
            elif action is not None and action.nargs != 0:
                wanting = action
        elif left:
            action = left.pop(0)
            given[action.dest] = word
            if isinstance(action, argparse._SubParsersAction):
                if word not in action.choices:
                    return []
                parser = action.choices[word]
                left = _positionals(parser)
    if wanting is not None:
        return _starting(typed, _values(wanting, given))
    option, equals, value = typed.partition("=")
    if typed.startswith("-") and equals:
        action = parser._option_string_actions.get(option)
        found = _starting(value, _values(action, given)) if action is not None else []
        return [(f"{option}={name}", meaning) for name, meaning in found if name != FILES]
    if typed.startswith("-"):
        return _starting(typed, [(name, action.help or "") for name, action in parser._option_string_actions.items()])
    return _starting(typed, _values(left[0], given) if left else [])


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]


def _starting(typed: str, found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, meaning) for name, meaning in found if name == FILES or name.startswith(typed)]


def _values(action: argparse.Action, given: dict[str, str]) -> list[tuple[str, str]]:
    """Every value an argument can have, as far as that is known here."""
    if isinstance(action, argparse._SubParsersAction):
        return [(choice.dest, choice.help or "") for choice in action._choices_actions]
    if action.choices is not None:
        return [(str(choice), "") for choice in action.choices]
    if action.metavar in ("FILE", "PATH", "DIRECTORY", "POLICY"):
        return [(FILES, "")]
    names = NAMES.get(action.dest)
    try:
        return [(name, "") for name in names(given.get("plugin"))] if names else []
    except (PluginError, OSError):
        return []  # the command itself will say what is wrong


def _plugins(_: str | None) -> list[str]:
    return Paths.from_environment().plugins()


def _volumes(plugin: str | None) -> list[str]:
    from legacyhost.commands import ask

    volumes = ask(plugin, "VolumeDriver.List", {}).get("Volumes")
    names = [volume.get("Name") for volume in volumes if isinstance(volume, dict)] if isinstance(volumes, list) else []
    # What no volume's name can be might be a command to the shell.
    return sorted(name for name in names if isinstance(name, str) and is_name(name))


def _rpcs(_: str | None) -> list[str]:
    from legacyhost.commands.call import rpcs

    return rpcs()


def _credentials(_: str | None) -> list[str]:
    from legacyhost.credentials import Store

    return Store(Paths.from_environment().credentials()).names()


#: What stands on a command line under a ``dest``: given the value of --plugin, the names there are.
NAMES: dict[str, Callable[[str | None], list[str]]] = {
    "plugin": _plugins,
    "volume": _volumes,
    "credential": _credentials,
    "rpc": _rpcs,
}
