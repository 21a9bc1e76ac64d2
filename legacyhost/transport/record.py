"""What is known of a mount's connections, in a file in /run; written by the transport, read by the service."""

from __future__ import annotations

import os  # not pathlib, which takes as long to load as all the rest

#: More than any number in a record, times among them.
LARGEST = 1e10


class Record:
    """What is known of a mount's connections; a file of ``key=value`` lines in /run, replaced whole.

    Times are seconds: ``*_at`` since the epoch, for people; the others on the monotonic clock.
    """

    def __init__(self) -> None:
        #: How often it was made, how often of these again; when last; how long the first took; how patient to be now.
        self.connections = self.reconnects = 0
        self.connected_at = self.took = self.patience = 0.0
        #: Since when there is none, and when an attempt last failed: 0 while there is one; when anything last did.
        self.lost = self.lost_at = self.tried = self.noticed = 0.0
        #: What ssh said last when it failed, and when.
        self.error = ""
        self.error_at = 0.0

    @classmethod
    def read(cls, path: str) -> Record:
        """What is recorded; a new record where there is none. Raises OSError, ValueError."""
        record = cls()
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file.read().splitlines():
                    key, _, value = line.partition("=")
                    if key in record.__dict__:  # another version may know others
                        setattr(record, key, type(record.__dict__[key])(value))
        if not all(0 <= value < LARGEST for value in record.__dict__.values() if value is not record.error):
            raise ValueError("a number in it is out of range")
        return record

    def write(self, path: str) -> None:
        """Raises OSError."""
        draft = f"{path}.{os.getpid()}"  # with max_conns= another process may be writing the same record
        with open(draft, "w", encoding="utf-8") as file:
            file.write("".join(f"{key}={value}\n" for key, value in self.__dict__.items()))
        os.replace(draft, path)
