"""A policy in sentences: who may do what, what each rule refuses, which rules nothing ever reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from legacyhost.policy import Policy, endpoints
from legacyhost.policy.language import EVERYTHING, NO_CERTIFICATE, Rule
from legacyhost.policy.limits import TABLES, Limits
from legacyhost.policy.places import Unsettled, closed_directory, resolve

#: How a table is called, and the groups for which it matters.
ABOUT: Mapping[str, tuple[str, set[str]]] = {
    "container": ("Containers", {"containers"}),
    "exec": ("Commands in containers", {"exec"}),
    "image": ("Images", {"images", "build"}),
    "build": ("Builds", {"build"}),
    "volume": ("Volumes", {"volumes", "containers"}),
    "network": ("Networks", {"networks", "containers"}),
}

#: What dockerd finds by an ID, or the beginning of one, as well as by its name.
_WITH_ID = frozenset({"containers", "exec", "images", "networks", "nodes", "services", "secrets", "configs"})

#: With one of these and no conditions there is a way to be root on the host.
_HAS_THE_HOST = frozenset({"containers", "exec", "plugins", "swarm"})


def sentences(rule: Rule) -> Iterator[str]:
    """What a rule says, line by line."""
    yield f"{_who(rule)} {'may' if rule.allows else 'may not'}"
    for entry in rule.what:
        yield f"  - {endpoints.GROUPS[entry]} ({entry})" if entry in endpoints.GROUPS else f"  - ask for {entry}"
    if rule.limits is None:
        if rule.allows and not rule.groups.isdisjoint(_HAS_THE_HOST):
            yield "Without conditions, and so with the whole host: privileged containers and commands, its directories."
        if rule.allows and "volumes" in rule.groups:
            yield "Without conditions: a volume may be any directory of the host, for who may use it in a container."
        return
    for table, (title, groups) in ABOUT.items():
        if rule.named or not rule.groups.isdisjoint(groups | {EVERYTHING}):
            yield f"{title}: {_table(rule.limits, table)}."
    yield "Refused: fields, parameters and endpoints that this version does not know, and bodies it cannot see."


def _table(limits: Limits, table: str) -> str:
    granted: list[str] = []
    refused: list[str] = []
    for name, setting in TABLES[table].items():
        shown = name.replace("_", " ")
        if isinstance(setting.default, bool):
            (granted if limits.flag(table, name) else refused).append(shown)
            continue
        allowed = limits.patterns(table, name)
        if not allowed.texts:
            refused.append(shown)
        else:
            granted.append(f"any {shown}" if allowed.fits_all else f"{shown} {allowed}")
    return "; ".join(filter(None, ["; ".join(granted), f"no {', '.join(refused)}" if refused else ""]))


def warnings(policy: Policy) -> Iterator[tuple[Rule, str]]:
    """What is allowed in a policy, and hardly meant."""
    for number, rule in enumerate(policy.rules):
        for earlier in policy.rules[:number]:
            if hides(earlier, rule):
                yield rule, f"is never reached, because {earlier.name!r} decides before it"
                break
        for entry in rule.limits.patterns("container", "binds").texts if rule.limits else ():
            if entry != "*" and (said := _odd_bind(entry.removesuffix(":ro"))):
                yield rule, said
        for entry in rule.what if not rule.allows else ():
            if name := _named_by_hand(entry):
                yield rule, f"denies {entry}, but not the same by the ID of {name}: better allow only what may be done"
        if _names_by_build(rule):
            yield rule, "allows only some images, but also builds that may give any image one of their names"
        if _makes_binds(rule):
            yield rule, "allows the volume option device, with which a local volume is any directory of this host"


def hides(earlier: Rule, rule: Rule) -> bool:
    """Whether all that a rule is about is decided by an earlier one."""
    return earlier.limits is None and _is_for_all_of(earlier, rule) and _is_about_all_of(earlier, rule)


def _is_for_all_of(earlier: Rule, rule: Rule) -> bool:
    if earlier.who is None:
        return True
    if rule.who is None:
        return False
    return all(
        entry in earlier.who
        or (entry != NO_CERTIFICATE and (earlier.names.fits_all or ("*" not in entry and earlier.names.fit(entry))))
        for entry in rule.who
    )


def _is_about_all_of(earlier: Rule, rule: Rule) -> bool:
    if EVERYTHING in earlier.groups:
        return True
    return all(entry in earlier.what or _is_about(earlier, entry) for entry in rule.what)


def _is_about(earlier: Rule, entry: str) -> bool:
    """Whether a rule is about all of a group, or about a path that is named."""
    if entry == EVERYTHING:
        return False
    if entry in endpoints.GROUPS:
        inner = [each for each in endpoints.ALL if entry in each.groups]
        return all(not earlier.groups.isdisjoint(each.groups) for each in inner)
    method, _, path = entry.rpartition(" ")
    return bool(method) and "*" not in path and earlier.covers(method, path, endpoints.find(method, path))


def _who(rule: Rule) -> str:
    if rule.who is None:
        return "Everybody"
    names = ["whoever has no certificate" if each == NO_CERTIFICATE else each for each in rule.who]
    text = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return text[0].upper() + text[1:] if rule.who[0] == NO_CERTIFICATE else text


def _named_by_hand(entry: str) -> str:
    """The name of what has an ID as well, in a path."""
    method, _, path = entry.rpartition(" ")
    parts = path.split("/")
    if len(parts) < 3 or parts[1] not in _WITH_ID or "*" in parts[2]:
        return ""
    known = any(path == each.path and method in ("", each.method) for each in endpoints.ALL)
    return "" if known else parts[2]


def _names_by_build(rule: Rule) -> bool:
    """Whether names of images are given where nobody looks, and decide what may be run."""
    if rule.limits is None or rule.limits.patterns("container", "images").fits_all:
        return False
    is_seen = not rule.limits.flag("build", "buildkit") and not rule.limits.flag("build", "sent_context")
    return not is_seen and bool(rule.named or rule.groups & {"build", EVERYTHING})


def _makes_binds(rule: Rule) -> bool:
    """Whether any directory can be made a volume of Docker's own driver."""
    if rule.limits is None or not rule.limits.patterns("volume", "drivers").fit("local"):
        return False
    return rule.limits.patterns("volume", "options").fit("device")


def _odd_bind(entry: str) -> str:
    """What is odd about a directory in ``binds``, or nothing."""
    try:
        place = resolve(entry)
    except Unsettled as error:
        return f"names {entry} in binds, and {error}"
    if place.path != (entry.rstrip("/") or "/"):
        return f"names {entry} in binds, which is {place.path} without links: that is what has to be named"
    closed = "" if place.mount else closed_directory(place.path)
    return (
        f"names {entry} in binds, but nothing below {closed} can be settled until it is open: chmod o+x"
        if closed
        else ""
    )
