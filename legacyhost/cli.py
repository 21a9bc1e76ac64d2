"""The command ``legacyhost``: its subcommands, and the boundary where every error becomes a sentence and a status.

Exit status: 0 done, 1 not done (one sentence on standard error says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from legacyhost import __version__, log
from legacyhost.commands import Commands, Parser, examples, service
from legacyhost.errors import InvalidRequest, PluginError
from legacyhost.wire import printable

#: More than any message needs.
LONGEST = 4000
#: With these, and without a name, it is standard output that cannot be written.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

EXAMPLES = """\
systemctl enable --now legacyhost@sshfs.socket
legacyhost trust nas.example.org
docker volume create -d sshfs -o sshcmd=web@nas.example.org:/srv/web web
legacyhost inspect web"""


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()  # whoever was reading has gone
    except OSError as error:
        what = error.filename
        if what is None and error.errno in UNWRITABLE:
            what = "the output cannot be written"
            _discard_output()
        _tell(": ".join(str(part) for part in (what, error.strerror or error) if part))
    except Exception as error:  # the last boundary: a defect is told in one line, or whole where somebody wants it
        if sys.flags.dev_mode or log.is_under_systemd():
            raise
        places = [
            Path(code.f_code.co_filename).name + f":{line}" for code, line in traceback.walk_tb(error.__traceback__)
        ]
        _tell(f"a defect in legacyhost {__version__}, please report it with this: {', '.join(places)}")
    return 1


def _main(arguments: Sequence[str]) -> int:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed from the beginning; no other file may get its number
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - until the end
            setattr(sys, name, stream)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)  # what a terminal cannot show or has sent is no reason to fail
    try:
        if arguments and arguments[0] == "__complete":
            from legacyhost.commands import completion

            return completion.complete(parser(), arguments[1:])
        # What runs for weeks has nothing of the others.
        options = (parser([service]) if arguments[:1] == ["serve"] else parser()).parse_args(arguments)
        status: int = options.run(options)
    except PluginError as error:
        _tell(error.message)
        status = 2 if isinstance(error, InvalidRequest) else 1
    finally:
        sys.stdout.flush()
    return status


def _tell(message: str) -> None:
    print(f"legacyhost: {printable(message, LONGEST)}", file=sys.stderr)


def _discard_output() -> None:
    """What is still buffered and cannot be written must not be tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def modules() -> Sequence[ModuleType]:
    """All groups of subcommands, in the order in which help shows them."""
    from legacyhost.commands import authz, call, credential, doctor, importing, network, trust, volumes

    return volumes, doctor, trust, credential, importing, authz, network, call, service


def parser(groups: Sequence[ModuleType] = ()) -> Parser:
    """What understands the command line: the subcommands of these groups, or all."""
    whole = Parser(
        prog="legacyhost",
        description="A host for Docker's legacy plugins: SSH directories as Docker and Podman volumes.",
        epilog=examples(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"legacyhost {__version__}")
    commands = Commands(whole)
    for module in groups or modules():
        module.add(commands)
    return whole
