"""What a restricting rule says of requests that are about no new container: exec, images, builds, networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from legacyhost.policy import containers, volumes
from legacyhost.policy.limits import Limits
from legacyhost.policy.patterns import fits_image, without_tag
from legacyhost.policy.request import Check, Refusal, Request, harmless, look, pairs, text
from legacyhost.wire import printable

#: Parameters that can do no harm. What is behind labels, filters and the like is only ever compared or kept.
HARMLESS_BUILD = harmless("""
    dockerfile q nocache forcerm rm pull memswap memory cpushares cpuperiod cpuquota cpusetcpus cpusetmems squash
    target session buildid platform shmsize isolation ulimits buildargs labels cachefrom version extrahosts
""")
HARMLESS_EXEC = harmless("""
    user tty consolesize attachstdin attachstderr attachstdout detach detachkeys env workingdir cmd container
""")
HARMLESS_NETWORK = harmless("""
    checkduplicate name scope internal attachable ingress configonly enableipv4 enableipv6 labels
""")


def exec_create(request: Request, limits: Limits) -> None:
    """POST /containers/NAME/exec. Raises Refusal."""

    def privileged(value: object) -> None:
        if value is not False and not limits.flag("exec", "privileged"):
            raise Refusal("does not allow a privileged command (privileged = true in [rule.exec] would)")

    container = request.path.removeprefix("/containers/").removesuffix("/exec")
    if not limits.patterns("exec", "containers").fit(container):
        raise limits.refusal("commands in the container", container, "exec", "containers")
    look(request.members, "", HARMLESS_EXEC | {"privileged": privileged})


def top(request: Request) -> None:
    """GET /containers/NAME/top. Raises Refusal.

    dockerd runs the host's ps with these arguments, as root, and shows the lines that have a process of the container's
    in the column PID. With ``-eorss=PID,args eww`` that is any number, and the environments shown are the host's.
    """
    for name, values in request.query.items():
        if name == "ps_args" and any("=" in value for value in values):
            raise Refusal("does not allow ps to be given other titles, with which it shows processes of the host")


def rename(request: Request, limits: Limits) -> None:
    """POST /containers/NAME/rename: where names of containers decide, they stay as they are. Raises Refusal."""
    if not limits.patterns("exec", "containers").fits_all or limits.patterns("container", "share_with").texts:
        raise Refusal("does not allow other names of containers, because it allows things by their names")


def pull(request: Request, limits: Limits) -> None:
    """POST /images/create, which is a pull or an import. Raises Refusal."""
    if not request.query.get("fromImage", [""])[0]:
        _load(limits, "an image that is imported")
        source = request.query.get("fromSrc", [""])[0]
        if source not in ("", "-") and not limits.patterns("build", "remote").fit(source):
            raise limits.refusal("fetching", source, "build", "remote")
        if not limits.patterns("image", "make").fits_all:
            _makes(limits, _with_tag(request.parameters, "repo", "tag"))
        return
    if limits.patterns("image", "pull").fits_all and limits.flag("image", "load"):
        return
    request.only(("fromImage", "tag", "platform", "repo", "message"))
    name = _with_tag(request.parameters, "fromImage", "tag").removesuffix(":")
    if not fits_image(limits.patterns("image", "pull"), name, all_tags=True):
        raise limits.refusal("pulling", name, "image", "pull")


def load(request: Request, limits: Limits) -> None:
    """POST /images/load. Raises Refusal."""
    _load(limits, "an image that is loaded")


def tag(request: Request, limits: Limits) -> None:
    """POST /images/NAME/tag. Raises Refusal."""
    if not limits.patterns("image", "make").fits_all:
        request.only(("repo", "tag", "force"))
        _makes(limits, _with_tag(request.parameters, "repo", "tag"))


def commit(request: Request, limits: Limits) -> None:
    """POST /commit. Raises Refusal."""
    if not limits.patterns("image", "make").fits_all:
        request.only(("container", "repo", "tag", "comment", "author", "pause", "changes"))
        _makes(limits, _with_tag(request.parameters, "repo", "tag"))


def build(request: Request, limits: Limits) -> None:
    """POST /build, classic or with BuildKit. Raises Refusal."""
    found = request.query
    request.only(HARMLESS_BUILD | harmless("t networkmode remote"))
    for name in found.get("t", ()):
        _makes(limits, name)
    network = found.get("networkmode", [""])[0] or "default"
    allowed = limits.patterns("build", "networks")
    if not allowed.fit(network) or (network not in ("none", "bridge", "default") and network not in allowed.texts):
        raise limits.refusal("the network", network, "build", "networks")
    remote = found.get("remote", [""])[0]
    if remote and remote != "client-session" and not limits.patterns("build", "remote").fit(remote):
        raise limits.refusal("fetching", remote, "build", "remote")
    if found.get("version", ["1"])[0] == "2" or remote == "client-session":
        buildkit(request, limits)
    if not request.is_bare and not limits.flag("build", "sent_context"):
        raise Refusal(
            "does not allow a build whose context is sent as the body, which may hide other parameters"
            " (sent_context = true in [rule.build] would)"
        )


def buildkit(request: Request, limits: Limits) -> None:
    """POST /grpc and /session: what goes on there is between the client and BuildKit. Raises Refusal."""
    if not limits.flag("build", "buildkit"):
        raise Refusal("does not allow BuildKit, into which nobody looks (buildkit = true in [rule.build] would)")


def network(request: Request, limits: Limits) -> None:
    """POST /networks/create. Raises Refusal."""

    def driver(value: object) -> None:
        name = text(value, "Driver") or "bridge"
        if not limits.patterns("network", "drivers").fit(name):
            raise limits.refusal("the network driver", name, "network", "drivers")

    def options(value: object) -> None:
        for name in pairs(value, "Options"):
            if not limits.patterns("network", "options").fit(name):
                raise limits.refusal("the network option", name, "network", "options")

    def ipam_driver(value: object) -> None:
        if text(value, "IPAM.Driver") not in ("", "default"):
            raise Refusal(f"does not allow the IPAM driver {printable(str(value))}")

    def config_from(value: object) -> None:
        if any(inner for _, inner in pairs(value, "ConfigFrom").items()):
            raise Refusal("does not allow ConfigFrom, another network's configuration")

    ipam: dict[str, Check] = {"driver": ipam_driver, "config": None, "options": options}
    checks: dict[str, Check] = {
        "driver": driver,
        "options": options,
        "configfrom": config_from,
        "ipam": lambda value: look(value, "IPAM", ipam),
    }
    look(request.members, "", HARMLESS_NETWORK | checks)


def connect(request: Request, limits: Limits) -> None:
    """POST /networks/NAME/connect. Raises Refusal."""
    host = containers.Host(limits)
    host.join(request.path.removeprefix("/networks/").removesuffix("/connect"))
    look(request.members, "", {"container": None, "endpointconfig": host.endpoint})


def unseen(request: Request, limits: Limits) -> None:
    """What nothing here looks into. Raises Refusal."""
    raise Refusal(
        f"does not allow {request.question.method} {printable(request.path)}, because nothing looks into that"
    )


#: The checks that the table of endpoints names.
CHECKS: Mapping[str, Callable[[Request, Limits], None]] = {
    "create": containers.create,
    "start": containers.start,
    "update": containers.update,
    "exec": exec_create,
    "rename": rename,
    "pull": pull,
    "load": load,
    "tag": tag,
    "commit": commit,
    "build": build,
    "buildkit": buildkit,
    "volume": volumes.create,
    "network": network,
    "connect": connect,
    "refused": unseen,
}


def _with_tag(found: Mapping[str, Sequence[str]], name: str, tag_name: str) -> str:
    """A reference as dockerd puts it together of two parameters: a tag takes the place of the one in the name."""
    whole, tag = (found.get(key, [""])[0] for key in (name, tag_name))
    if not tag or not whole:
        return whole
    repository = whole if "@" in whole else without_tag(whole)
    return f"{repository}@{tag}" if ":" in tag else f"{repository}:{tag}"


def _load(limits: Limits, what: str) -> None:
    if not limits.flag("image", "load"):
        raise Refusal(f"does not allow {what} (load = true in [rule.image] would)")


def _makes(limits: Limits, name: str) -> None:
    if name and not fits_image(limits.patterns("image", "make"), name):
        raise limits.refusal("giving an image the name", name, "image", "make")
