"""The subcommands, one module for each group of them; how they are declared, and how they find the plugin, is here.

A module has ``add(commands)``, which declares its subcommands and what runs for each: a function that takes the parsed
arguments and returns the exit status. It raises InvalidRequest for wrong usage (status 2) and another PluginError for
whatever was not done (status 1). ``legacyhost.cli`` lists the modules. All of them are loaded whatever is run, so what
is large is imported in the function that needs it. What an argument's values are completed to is found by its ``dest``,
in ``completion``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from legacyhost.commands.terminal import progress
from legacyhost.config import Paths, load
from legacyhost.errors import ConfigError, InvalidRequest
from legacyhost.names import is_name
from legacyhost.wire import nearest, printable

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """One line for a mistake, with the nearest command for one that there is not."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {printable(message, 300)}\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if isinstance(action.choices, Mapping) and value not in action.choices:
            raise argparse.ArgumentError(None, f"there is no command {value}{did_you_mean(str(value), action.choices)}")
        super()._check_value(action, value)


class Commands:
    """The subcommands of a parser."""

    def __init__(self, parser: Parser) -> None:
        def show_help(_: argparse.Namespace) -> int:
            parser.print_help(sys.stderr)
            return 2

        parser.set_defaults(run=show_help)
        self._subparsers = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)

    def add(
        self, name: str, text: str, example: str, run: Run, *, plugin: bool = False, json: bool = False
    ) -> argparse.ArgumentParser:
        """One more, to which its own arguments are to be added.

        ``text`` is a phrase without a full stop, ``example`` a line that can be typed, or several. ``plugin`` and
        ``json`` give it the option of that name.
        """
        parser = self._add(name, text, example)
        parser.set_defaults(run=run)
        if plugin:
            parser.add_argument("--plugin", metavar="NAME", help="the plugin (default: the only one there is)")
        if json:
            parser.add_argument("--json", action="store_true", help="print JSON")
        return parser

    def group(self, name: str, text: str, example: str) -> Commands:
        """One that has subcommands itself, to which these are to be added."""
        return Commands(self._add(name, text, example))

    def _add(self, name: str, text: str, example: str) -> Parser:
        return self._subparsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=examples(example),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )


def examples(lines: str) -> str:
    """The end of a help text."""
    return f"example: {lines}" if "\n" not in lines else "\n  ".join(("examples:", *lines.splitlines()))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is none of the known: the nearest, or nothing."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def plugin_name(given: str | None, section: str = "volume") -> str:
    """The plugin named, or the only one that has that section. Raises ConfigError, InvalidRequest."""
    paths = Paths.from_environment()
    if given is None:
        plugins = paths.plugins()
        if not plugins:
            raise ConfigError(f"there is no plugin: no *.toml in {paths.etc}")
        if len(plugins) > 1:
            plugins = [name for name in plugins if _has(paths.configuration(name), section)] or plugins
        if len(plugins) > 1:
            raise InvalidRequest(f"there are several plugins, say which with --plugin: {', '.join(plugins)}")
        given = plugins[0]
    if not is_name(given):
        raise InvalidRequest(f"{printable(given)!r} cannot be the name of a plugin")
    return given


def _has(path: Path, section: str) -> bool:
    """Whether a configuration has it, or may have: it cannot be read."""
    try:
        return getattr(load(path), section) is not None
    except ConfigError:
        return True


def socket_of(plugin: str | None, section: str = "volume") -> Path:
    """The socket of the plugin named, or of the only one that has that section. Raises ConfigError, InvalidRequest."""
    return Paths.from_environment().sockets / f"{plugin_name(plugin, section)}.sock"


def ask(plugin: str | None, rpc: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """The reply of the plugin named, or of the only one, to an RPC. Raises PluginError with what it said."""
    from legacyhost.client import call

    path = socket_of(plugin, "authz" if rpc.startswith("AuthZ") else "volume")
    with progress(f"waiting for the plugin {path.stem}"):
        return call(path, rpc, arguments)
