"""The command ``legacyhost``: its subcommands, and the boundary where every error becomes a sentence and a status.

Exit status: 0 done, 1 not done (one sentence on standard error says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from legacyhost import __version__
from legacyhost.commands import Commands, call, service, trust, volumes
from legacyhost.errors import InvalidRequest, PluginError

#: In the order in which help shows them.
MODULES = (volumes, trust, call, service)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _main(arguments)
    except BrokenPipeError:
        # Whoever was reading has gone; what is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _main(arguments: Sequence[str] | None) -> int:
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)  # what a terminal cannot show or has sent is no reason to fail
    try:
        options = parser().parse_args(arguments)
        status: int = options.run(options)
    except PluginError as error:
        print(f"legacyhost: {error.message}", file=sys.stderr)
        status = 2 if isinstance(error, InvalidRequest) else 1
    finally:
        if sys.stdout is not None:  # it is None where it was closed from the beginning
            sys.stdout.flush()
    return status


def parser() -> argparse.ArgumentParser:
    """What understands the command line."""
    whole = argparse.ArgumentParser(
        prog="legacyhost",
        description="A host for Docker's legacy plugins: SSH directories as Docker and Podman volumes.",
        epilog="example: systemctl enable --now legacyhost@sshfs.socket, then docker volume create -d sshfs …",
    )
    whole.add_argument("--version", action="version", version=f"legacyhost {__version__}")
    commands = Commands(whole)
    for module in MODULES:
        module.add(commands)
    return whole
