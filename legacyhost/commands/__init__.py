"""The subcommands, one module for each group of them; what they share is here.

A module has ``add(commands)``, which declares its subcommands and what runs for each: a function that takes the parsed
arguments and returns the exit status. It raises InvalidRequest for wrong usage (status 2) and another PluginError for
whatever was not done (status 1). ``legacyhost.cli`` lists the modules. All of them are loaded whatever is run, so what
is large is imported in the function that needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from legacyhost.config import Paths
from legacyhost.errors import ConfigError, InvalidRequest
from legacyhost.names import is_name
from legacyhost.wire import printable

Run = Callable[[argparse.Namespace], int]


class Commands:
    """The subcommands of a parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        self, name: str, text: str, example: str, run: Run, *, plugin: bool = False, json: bool = False
    ) -> argparse.ArgumentParser:
        """One more, to which its own arguments are to be added.

        ``text`` is a phrase without a full stop, ``example`` a line that can be typed. ``plugin`` and ``json`` give it
        the option of that name.
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

    def _add(self, name: str, text: str, example: str) -> argparse.ArgumentParser:
        return self._subparsers.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}"
        )


def plugin_name(given: str | None) -> str:
    """The plugin named, or the only one. Raises ConfigError, InvalidRequest."""
    paths = Paths.from_environment()
    if given is None:
        plugins = paths.plugins()
        if not plugins:
            raise ConfigError(f"there is no plugin: no *.toml in {paths.etc}")
        if len(plugins) > 1:
            raise InvalidRequest(f"there are several plugins, say which with --plugin: {', '.join(plugins)}")
        given = plugins[0]
    if not is_name(given):
        raise InvalidRequest(f"{printable(given)!r} cannot be the name of a plugin")
    return given


def socket_of(plugin: str | None) -> Path:
    """The socket of the plugin named, or of the only one. Raises ConfigError, InvalidRequest."""
    return Paths.from_environment().sockets / f"{plugin_name(plugin)}.sock"


def is_confirmed(question: str) -> bool:
    """Whether somebody answers yes; without anybody to ask, it is no."""
    print(question, end="", flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer.endswith("\n"):
        print()
    return answer.strip().lower() in ("y", "yes")


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns of text, as wide as their widest cell, under their names."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        print("  ".join([*(f"{cell:{width}}" for cell, width in zip(line, widths, strict=False)), line[-1]]))
