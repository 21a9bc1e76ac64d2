"""The patterns of a policy: names, paths, images, with ``*`` for what may be anything.

``*`` stands for any characters but ``/``, ``**`` for any at all; a pattern that is only ``*`` fits everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from legacyhost.wire import printable

#: Characters of what fits a pattern in which * ends at a slash: more than any name has.
LONGEST = 512
#: Of both kinds together; each more makes a name that nearly fits more expensive by its length.
MOST_MIXED = 3
#: What Docker's own registry is called in the names of images.
HUB = ("docker.io", "index.docker.io")


class Patterns:
    """Several, of which one has to fit. Those without ``*`` cost a look into a set."""

    def __init__(self, texts: Iterable[str], *, flat: bool = False) -> None:
        """``flat``: ``*`` goes across ``/`` too. Raises ValueError."""
        self.texts: Sequence[str] = tuple(texts)
        self.fits_all = "*" in self.texts
        self._plain = frozenset(text for text in self.texts if "*" not in text)
        starred = [text for text in self.texts if "*" in text and text != "*"]
        self._longest = None if flat else LONGEST
        self._starred: Callable[[str], object] | None = None
        if starred:
            self._starred = re.compile("|".join(_regex(text, flat) for text in starred), re.DOTALL).fullmatch

    def fit(self, text: str) -> bool:
        if self.fits_all or text in self._plain:
            return True
        if self._starred is None or (self._longest is not None and len(text) > self._longest):
            return False
        return self._starred(text) is not None

    @cached_property
    def of_hub(self) -> Patterns | None:
        """Those that are written like long names of images: nothing else is to fit these."""
        long = [text for text in self.texts if text.startswith((*(f"{hub}/" for hub in HUB), "library/"))]
        return Patterns(long) if long else None

    def __str__(self) -> str:
        return ", ".join(self.texts) or "none"


def _regex(text: str, flat: bool) -> str:
    """Where all stars are of one kind, the first place at which the next piece fits is as good as any later one.

    So no name takes longer than its length to find out that it does not fit (as in fnmatch). Raises ValueError.
    """
    first, *rest = re.split(r"(\*\*|\*)", text)
    stars, pieces = rest[::2], [re.escape(piece) for piece in rest[1::2]]
    each = [".*" if flat or star == "**" else "[^/]*" for star in stars]
    if len(set(each)) == 1:
        middle = "".join(f"(?>{each[0]}?{piece})" for piece in pieces[:-1])
        return f"{re.escape(first)}{middle}{each[0]}{pieces[-1]}"
    if len(each) > MOST_MIXED:
        raise ValueError(f"there are more than {MOST_MIXED} of * and ** together in {printable(text)}")
    return re.escape(first) + "".join(star + piece for star, piece in zip(each, pieces, strict=True))


def image_name(text: str) -> tuple[str, str]:
    """The shortest name of a repository, and the whole with tag or digest: ``docker.io/library/debian`` is ``debian``.

    A reference without a tag is the one with ``:latest``. Behind ``docker.io/`` what looks like a registry is a name.
    """
    repository, at, digest = text.partition("@")
    first, slash, behind = repository.partition("/")
    if slash and first in HUB:
        repository = f"{HUB[0]}/{behind}" if _names_registry(behind) else behind
        repository = repository.removeprefix("library/") if repository.count("/") == 1 else repository
    elif slash and first == "library" and repository.count("/") == 1:
        repository = repository.removeprefix("library/")
    name = without_tag(repository)
    tag = repository[len(name) :]
    return name, name + (tag or ("" if at else ":latest")) + at + digest


def without_tag(repository: str) -> str:
    """All before the first colon of the last part: with two of them it is a name for nobody."""
    colon = repository.find(":", repository.rfind("/") + 1)
    return repository if colon < 0 else repository[:colon]


def fits_image(patterns: Patterns, text: str, *, all_tags: bool = False) -> bool:
    """Whether a reference to an image fits, by its short or its long name; a pattern without a tag fits every tag.

    ``all_tags``: one without a tag stands for all of them, not for ``:latest``.
    """
    if patterns.fits_all:
        return True
    name, whole = image_name(text)
    is_all = all_tags and "@" not in text and not text.endswith(whole[len(name) :])
    if patterns.fit(name) or (patterns.fit(whole) and not is_all):
        return True
    long = patterns.of_hub
    return long is not None and any(
        long.fit(prefix + name) or (long.fit(prefix + whole) and not is_all) for prefix in _prefixes(name)
    )


def _prefixes(name: str) -> Sequence[str]:
    """What can stand before the short name of an image without making it another."""
    if _names_registry(name) or name.startswith(f"{HUB[0]}/"):
        return ()
    return (f"{HUB[0]}/",) if "/" in name else (f"{HUB[0]}/library/", f"{HUB[0]}/", "library/")


def _names_registry(name: str) -> bool:
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost" or first != first.lower())
