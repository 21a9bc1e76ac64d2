"""A container image made of one static program, so that no test needs a registry."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath


def archive(busybox: bytes, applets: Sequence[str], files: Mapping[str, str | bytes], owner: tuple[int, int]) -> bytes:
    """A root file system of one program as a tar archive."""
    buffer = io.BytesIO()
    seen: set[str] = set()  # Docker refuses an archive that names a path twice
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, content: bytes | None, mode: int, link: str = "", ids: tuple[int, int] = (0, 0)) -> None:
            if name in seen:
                return
            seen.add(name)
            entry = tarfile.TarInfo(name)
            entry.mode, entry.linkname, (entry.uid, entry.gid) = mode, link, ids
            entry.type = tarfile.SYMTYPE if link else tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.size = len(content or b"")
            tar.addfile(entry, io.BytesIO(content or b""))

        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            add(directory, None, mode)
        add("bin/busybox", busybox, 0o755)
        for applet in applets:
            add(f"bin/{applet}", b"", 0o777, "busybox")
        add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
        add("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        for path, content in files.items():
            name = path.strip("/")
            for parent in [*reversed(PurePosixPath(name).parents)][1:]:
                add(str(parent), None, 0o755, ids=owner)
            data = None if path.endswith("/") else content.encode() if isinstance(content, str) else content
            add(name, data, 0o755 if data is None else 0o644, ids=owner)
    return buffer.getvalue()
