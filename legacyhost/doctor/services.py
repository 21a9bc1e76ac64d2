"""The units: switched on, in order, tied to nothing they must not be tied to, none of them failed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

from legacyhost.doctor import Finding, error, ok, warning
from legacyhost.doctor.host import Host
from legacyhost.names import is_name

TARGET = "legacyhost.target"
DOCKER = ("docker.service", "docker.socket")
#: What must not tie a plugin to Docker: see the comments in the units.
TIES = ("Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds")
#: The same written down in Docker's unit, which ends with the plugin then.
TIES_OF_DOCKER = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf")
RELOAD = "systemctl daemon-reload"
#: Seconds in which a plugin that does not serve has tried again.
TRIES_AGAIN = 10.0


def socket_unit(plugin: str) -> str:
    return f"legacyhost@{plugin}.socket"


def service_unit(plugin: str) -> str:
    return f"legacyhost@{plugin}.service"


def instances(host: Host) -> set[str]:
    """The plugins whose socket systemd knows, running or not."""
    ran = host.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", socket_unit("*")])
    found = (line.split()[0].removeprefix("legacyhost@").removesuffix(".socket") for line in ran.stdout.splitlines())
    return {name for name in found if is_name(name)}


def is_switched_on(host: Host, plugin: str) -> bool:
    """Whether somebody wants this plugin: it is enabled, runs, or has failed."""
    shown = host.unit(socket_unit(plugin), "UnitFileState", "ActiveState")
    return shown["UnitFileState"].startswith("enabled") or shown["ActiveState"] not in ("inactive", "")


def target(host: Host) -> Iterator[Finding]:
    shown = host.unit(TARGET, "LoadState", "UnitFileState", "ActiveState", "Before")
    why = "it is what starts the plugins before Docker at boot, and keeps them until Docker has stopped"
    if shown["LoadState"] == "masked":
        yield error("target", f"{TARGET} is masked", why, f"systemctl unmask {TARGET} && systemctl start {TARGET}")
    elif shown["LoadState"] != "loaded":
        yield error("target", f"{TARGET} is not there", why, "apt-get install -y --reinstall legacyhost")
    elif shown["UnitFileState"] != "enabled":
        yield warning("target", f"{TARGET} is not enabled", why, f"systemctl enable --now {TARGET}")
    elif shown["ActiveState"] != "active":
        yield warning("target", f"{TARGET} is not active", why, f"systemctl start {TARGET}")
    elif "docker.service" not in shown["Before"].split():
        yield error("target", f"{TARGET} is not ordered before Docker", why, f"systemctl revert {TARGET} && {RELOAD}")
    else:
        yield ok("target", f"{TARGET} is enabled and active")


def socket(host: Host, plugin: str) -> Iterator[Finding]:
    unit = socket_unit(plugin)
    shown = host.unit(unit, "LoadState", "UnitFileState", "ActiveState", "NeedDaemonReload")
    # A socket is not started while its service runs.
    start = f"systemctl stop {service_unit(plugin)} && systemctl enable --now {unit}"
    if shown["LoadState"] == "masked":
        mend = f"systemctl unmask {unit} && {start}"
        yield error("socket unit", f"{unit} is masked", "the plugin can neither be found nor started", mend)
    elif shown["ActiveState"] == "failed":
        mend = f"systemctl reset-failed {unit} && {start}"
        yield error("socket unit", f"{unit} has failed", "Docker and Podman cannot find the plugin", mend)
    elif shown["ActiveState"] != "active":
        yield error("socket unit", f"{unit} is not active", "Docker and Podman cannot find the plugin", start)
    elif shown["UnitFileState"] != "enabled":
        why = "after the next boot Docker and Podman will not find the plugin"
        yield warning("socket unit", f"{unit} is not enabled", why, f"systemctl enable {unit}")
    elif shown["NeedDaemonReload"] == "yes":
        why = "systemd goes by the old one"
        yield warning("socket unit", f"the file of {unit} has been changed since systemd read it", why, RELOAD)
    else:
        yield ok("socket unit", f"{unit} is enabled and active")


def order(host: Host, plugin: str) -> Iterator[Finding]:
    """No tie to Docker, and no order against it but through the target."""
    found = False
    for unit, forbidden in (
        (service_unit(plugin), (*TIES, *TIES_OF_DOCKER, "Before", "After")),
        (socket_unit(plugin), (*TIES, *TIES_OF_DOCKER, "After")),
    ):
        shown = host.unit(unit, *forbidden)
        for name in forbidden:
            other = next((other for other in shown[name].split() if other in DOCKER), None)
            if other is not None:
                found = True
                yield error("order", f"{unit} has {name}={other}", _why(name), _untie(host, unit))
                break
    if not found:
        yield ok("order", f"{service_unit(plugin)} is tied to Docker by its target only")


def _why(name: str) -> str:
    if name == "Before":
        return "stopping Docker while the plugin is not running hangs for 15 seconds, and its last unmount is lost"
    if name == "After":
        return "Docker does not find the plugin while it starts, so containers with volumes do not come up at boot"
    if name in TIES_OF_DOCKER:
        return "Docker is stopped together with the plugin, and all containers with it"
    return "stopping Docker takes the plugin away that its last unmount needs, or is cancelled, and Docker runs on"


def _untie(host: Host, unit: str) -> str:
    """Takes Docker's name out of the lines that tie, in the files that have such."""
    keys = r"\(Requires\|Requisite\|Wants\|BindsTo\|PartOf\|Upholds\|Before\|After\)"
    commands = []
    for owner, word, edit in (
        (unit, "docker.", r"s/docker\.\(service\|socket\)//g"),
        ("docker.service", "legacyhost@", r"s/legacyhost@[^ ]*//g"),
    ):
        shown = host.unit(owner, "FragmentPath", "DropInPaths")
        for file in [shown["FragmentPath"], *shown["DropInPaths"].split()]:
            if file and _has_tie(host, file, word, is_socket=owner.endswith(".socket")):
                # The socket's own order is right.
                these = keys.replace(r"\|Before", "") if owner.endswith(".socket") else keys
                commands.append(f"sed -i {shlex.quote(f'/^{these}=/{edit}')} {shlex.quote(file)}")
    return " && ".join([*commands, RELOAD]) if commands else f"systemctl cat {unit} docker.service"


def _has_tie(host: Host, file: str, word: str, *, is_socket: bool) -> bool:
    keys = {*TIES, "After"} if is_socket else {*TIES, "After", "Before"}
    try:
        lines = host.at(file).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return False
    return any(word in value and key.strip() in keys for key, _, value in (line.partition("=") for line in lines))


def service(host: Host, plugin: str) -> Iterator[Finding]:
    """What systemd shows of it; a plugin that nobody has called yet does not run."""
    unit = service_unit(plugin)
    end = time.monotonic() + TRIES_AGAIN
    while True:
        shown = host.unit(unit, "LoadState", "ActiveState", "StatusText", "NeedDaemonReload")
        # It tries again every few seconds, and what it says may be what has just been mended.
        if not shown["StatusText"].startswith("not serving") or time.monotonic() > end:
            break
        time.sleep(0.5)
    if shown["LoadState"] == "masked":
        mend = f"systemctl unmask {unit} && systemctl restart {unit}"
        yield error("service", f"{unit} is masked", "the plugin cannot be started", mend)
    elif shown["ActiveState"] == "failed":
        mend = f"systemctl reset-failed {unit}; systemctl restart {unit} || journalctl -n 20 -u {unit}"
        yield error("service", f"{unit} has failed", "no call of Docker or Podman is answered", mend)
    elif shown["StatusText"].startswith("not serving"):
        # What has to be mended is found where the configuration and the record are looked at.
        why = "Docker's calls are left without an answer until that is mended"
        yield error("service", f"{unit} is {shown['StatusText']}", why, f"systemctl try-reload-or-restart {unit}")
    elif "with the old configuration" in shown["StatusText"]:
        why = "a change of the configuration has not been taken over"
        yield warning("service", f"{unit} is {shown['StatusText']}", why, f"systemctl try-reload-or-restart {unit}")
    elif shown["NeedDaemonReload"] == "yes":
        why = "systemd goes by the old one"
        yield warning("service", f"the file of {unit} has been changed since systemd read it", why, RELOAD)
    else:
        yield ok("service", f"{unit} is {shown['StatusText'] or 'started by its first call'}")


def failed(host: Host) -> Iterator[Finding]:
    """Units of this software that have failed; the plugins' own are looked at with them."""
    listed = host.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "legacyhost*"]).stdout
    units = [line.split()[0] for line in listed.splitlines() if line.strip()]
    others = [unit for unit in units if not unit.startswith("legacyhost@")]
    for unit in others:
        name, why = shlex.quote(unit), "its last words say what went wrong with that mount"
        mend = f"journalctl -n 20 -u {name}; systemctl reset-failed {name}"
        yield warning("failed units", f"{unit} has failed", why, mend)
    if not others:
        yield ok("failed units", "no unit of a mount has failed")
