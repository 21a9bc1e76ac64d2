"""Where log lines go: the journal, with fields, when systemd started us; otherwise the terminal.

The only door to systemd-python.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

_logger = logging.getLogger("legacyhost")


def set_up(level: int = INFO, identifier: str = "legacyhost") -> None:
    """Choose the place once, at start. Also takes what the libraries log (warnings and worse)."""
    handler = _journal(identifier) if is_under_systemd() else _terminal()
    for name, threshold in (("legacyhost", level), ("gunicorn", WARNING), ("falcon", WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(threshold)
        logger.propagate = False
    # paramiko logs whole tracebacks of what is reported to the user in one sentence anyway.
    paramiko = logging.getLogger("paramiko")
    paramiko.handlers = [logging.NullHandler()]
    paramiko.propagate = False


def set_level(level: int) -> None:
    _logger.setLevel(level)


def is_under_systemd() -> bool:
    """Whether standard error is the journal's own socket (systemd.exec(5), JOURNAL_STREAM)."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        device, inode = (int(part) for part in stream.split(":"))
        stat = os.fstat(sys.stderr.fileno())
    except (ValueError, OSError):
        return False
    return (stat.st_dev, stat.st_ino) == (device, inode)


def is_enabled(level: int) -> bool:
    return _logger.isEnabledFor(level)


def event(level: int, message: str, fields: Mapping[str, str] | None = None) -> None:
    """One line about something that has ended; ``fields`` become fields of the journal entry."""
    _logger.log(level, "%s", message, extra=dict(fields or {}))


def exception(message: str, *args: object) -> None:
    """A defect of this software, with its traceback. For nothing else."""
    _logger.exception(message, *args)


def _terminal() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    return handler


def _journal(identifier: str) -> logging.Handler:
    from systemd import journal

    handler: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER=identifier)
    return handler
