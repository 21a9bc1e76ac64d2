"""Patterns of ssh_config(5), as known_hosts files have them for names: * and ?."""

from __future__ import annotations

#: A longer one makes ssh give the whole list up.
_LONGEST = 1022


def is_match(name: bytes, pattern: bytes) -> bool:
    """Whether ``pattern`` is about the whole of ``name``, in time proportional to both."""
    at = start = 0
    star = -1
    for_pattern = 0
    while at < len(name):
        if for_pattern < len(pattern) and pattern[for_pattern : for_pattern + 1] == b"*":
            star, start = for_pattern, at
            for_pattern += 1
        elif for_pattern < len(pattern) and pattern[for_pattern : for_pattern + 1] in (b"?", name[at : at + 1]):
            for_pattern += 1
            at += 1
        elif star >= 0:  # the last * takes one character more
            start += 1
            at, for_pattern = start, star + 1
        else:
            return False
    return not pattern[for_pattern:].strip(b"*")


def is_in_list(name: bytes, patterns: bytes) -> bool:
    """Whether one of the patterns, separated by commas, in any case, is about ``name``, and none behind a ! is."""
    matched = False
    for pattern in patterns.lower().split(b","):
        bare = pattern.removeprefix(b"!")
        if len(bare) > _LONGEST:
            return False
        if is_match(name, bare):
            if bare != pattern:
                return False
            matched = True
    return matched
