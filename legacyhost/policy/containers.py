"""What a request to make a container may say under a restricting rule: every field that any dockerd knows.

A field is harmless, or one of the settings in ``limits`` is about it, or it is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable

from legacyhost.policy.binds import Binds
from legacyhost.policy.limits import Limits
from legacyhost.policy.patterns import Patterns, fits_image
from legacyhost.policy.request import Check, Refusal, Request, harmless, items, look, pairs, text, texts
from legacyhost.policy.volumes import volume_driver
from legacyhost.wire import printable

HARMLESS_CONFIG = harmless("""
    hostname domainname user attachstdin attachstdout attachstderr exposedports portspecs tty openstdin stdinonce env
    cmd healthcheck argsescaped volumes workingdir entrypoint networkdisabled macaddress onbuild labels stopsignal
    stoptimeout shell cpuset
""")
HARMLESS_HOST = harmless("""
    containeridfile portbindings restartpolicy autoremove consolesize capdrop dns dnsoptions dnssearch extrahosts
    groupadd publishallports readonlyrootfs tmpfs shmsize isolation init
""")
#: These are all of HostConfig that an update can have, with what is looked at below.
HARMLESS_RESOURCES = harmless("""
    cpushares memory nanocpus blkioweight blkioweightdevice blkiodevicereadbps blkiodevicewritebps
    blkiodevicereadiops blkiodevicewriteiops cpuperiod cpuquota cpurealtimeperiod cpurealtimeruntime cpusetcpus
    cpusetmems cpuset kernelmemory kernelmemorytcp memoryreservation memoryswap memoryswappiness pidslimit ulimits
    cpucount cpupercent iomaximumiops iomaximumbandwidth diskquota restartpolicy
""")
HARMLESS_ENDPOINT = harmless("""
    ipamconfig aliases networkid endpointid gateway ipaddress ipprefixlen ipv6gateway globalipv6address
    globalipv6prefixlen macaddress gwpriority dnsnames
""")
HARMLESS_LOG_OPTIONS = harmless("max-size max-file labels labels-regex env env-regex tag mode compress max-buffer-size")
CONTAINER = "container:"
#: Bytes of a body at the start of a container that dockerd takes for none.
LONGEST_IGNORED = 7


def create(request: Request, limits: Limits) -> None:
    """POST /containers/create. Raises Refusal."""
    host = Host(limits)
    checks = host.checks() | HARMLESS_CONFIG
    checks |= {
        "image": host.image,
        "hostconfig": lambda value: look(value, "HostConfig", host.checks()),
        "networkingconfig": host.networking,
        "volumes": host.anonymous,
    }
    look(request.members, "", checks)
    names = [key.casefold() for key, _ in request.members]
    if "image" not in names and not limits.patterns("container", "images").fits_all:
        raise Refusal("does not allow a container without an image")
    host.unnamed()


def start(request: Request, limits: Limits) -> None:
    """POST /containers/NAME/start, which before API 1.24 takes a whole HostConfig. Raises Refusal."""
    request.only(("detachKeys",))
    if request.is_bare:
        return
    host = Host(limits)
    look(request.members, "HostConfig", host.checks())
    if request.members or request.length > LONGEST_IGNORED:
        host.unnamed()


def update(request: Request, limits: Limits) -> None:
    """POST /containers/NAME/update. Raises Refusal."""
    look(request.members, "", Host(limits).checks())


class Host:
    """The checks of one rule."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._binds = Binds(limits)
        self._names_network = False

    def checks(self) -> dict[str, Check]:
        allowed, switch = self._allowed, self._switch
        governed: dict[str, Check] = {
            "binds": self._binds.binds,
            "mounts": self._binds.mounts,
            "volumedriver": lambda value: volume_driver(self._limits, text(value, "VolumeDriver")),
            "volumesfrom": self._share("VolumesFrom", lambda entry: entry.partition(":")[0]),
            "links": self._links(),
            "privileged": switch("privileged", "a privileged container"),
            "capadd": allowed("capabilities", "the capability", _capability),
            "capabilities": allowed("capabilities", "the capability", _capability),
            "securityopt": allowed("security_options", "the security option", security_option),
            "devices": self._devices,
            "devicecgrouprules": allowed("devices", "the device rule"),
            "devicerequests": self._requests,
            "pidmode": self._namespace("pid"),
            "ipcmode": self._namespace("ipc", "none", "private", "shareable"),
            "utsmode": self._namespace("uts"),
            "usernsmode": self._namespace("user", "private"),
            "cgroupnsmode": self._namespace("cgroup", "private"),
            "cgroup": self._namespace("cgroup"),
            "networkmode": self._mode,
            "maskedpaths": switch("unmasked", "a container with masked paths of its own"),
            "readonlypaths": switch("unmasked", "a container with read-only paths of its own"),
            "sysctls": self._keys("sysctls", "the kernel parameter", "Sysctls"),
            "annotations": self._keys("annotations", "the annotation", "Annotations"),
            "runtime": self._named("runtimes", "the runtime"),
            "cgroupparent": self._named("cgroup_parents", "the parent cgroup"),
            "logconfig": self._log,
            "storageopt": self._storage,
            "lxcconf": _empty,
            "initpath": _empty,
            "oomscoreadj": self._oom_score,
            "oomkilldisable": switch("oom_protected", "a container without OOM killer"),
        }
        return HARMLESS_HOST | HARMLESS_RESOURCES | governed

    def image(self, value: object) -> None:
        name = text(value, "Image")
        if not fits_image(self._limits.patterns("container", "images"), name):
            raise self._limits.refusal("the image", name, "container", "images")

    def anonymous(self, value: object) -> None:
        for path in pairs(value, "Volumes"):
            if ":" in path:
                raise Refusal("does not allow a colon in Volumes")

    def networking(self, value: object) -> None:
        look(value, "NetworkingConfig", {"endpointsconfig": self._endpoints})

    def join(self, name: str) -> None:
        """A network of a container, or another container's. Raises Refusal."""
        if name.startswith(CONTAINER):
            self._shared("network of", name[len(CONTAINER) :])
            return
        allowed = self._limits.patterns("network", "join")
        if name == "none":
            return
        if name in ("", "default"):
            name = "default" if allowed.fit("default") else "bridge"
        if name == "host" and "host" not in allowed.texts:
            raise Refusal(f"does not allow the network host (join in [rule.network] would have to name it: {allowed})")
        if not allowed.fit(name):
            raise self._limits.refusal("the network", name, "network", "join")

    def unnamed(self) -> None:
        """A container that names no network is in dockerd's own, bridge. Raises Refusal."""
        if not self._names_network:
            self.join("default")

    def _mode(self, value: object) -> None:
        name = text(value, "NetworkMode")
        if name not in ("", "default"):
            self._names_network = True
            self.join(name)

    def endpoint(self, value: object) -> None:
        """How a container is connected to one network."""
        options = self._keys("options", "the option of a network", "DriverOpts", "network")
        look(value, "EndpointsConfig", HARMLESS_ENDPOINT | {"driveropts": options, "links": self._links()})

    def _endpoints(self, value: object) -> None:
        for name, settings in pairs(value, "EndpointsConfig").items():
            self._names_network = True
            self.join(name)
            self.endpoint(settings)

    def _switch(self, setting: str, what: str) -> Check:
        def check(value: object) -> None:
            if value is not False and not self._limits.flag("container", setting):
                raise Refusal(f"does not allow {what} ({setting} = true in [rule.container] would)")

        return check

    def _allowed(self, setting: str, what: str, form: Callable[[str], str] = str) -> Check:
        allowed = self._limits.patterns("container", setting)
        formed = Patterns([form(pattern) for pattern in allowed.texts], flat=setting == "security_options")

        def check(value: object) -> None:
            for entry in texts(value, what.removeprefix("the ")):
                if not formed.fit(form(entry)) and not (setting == "capabilities" and "ALL" in formed.texts):
                    raise self._limits.refusal(what, entry, "container", setting)

        return check

    def _named(self, setting: str, what: str) -> Callable[[object], None]:
        allowed = self._limits.patterns("container", setting)

        def check(value: object) -> None:
            entry = text(value, what.removeprefix("the "))
            if entry and not allowed.fit(entry):
                raise self._limits.refusal(what, entry, "container", setting)

        return check

    def _keys(self, setting: str, what: str, where: str, table: str = "container") -> Check:
        allowed = self._limits.patterns(table, setting)

        def check(value: object) -> None:
            for name in pairs(value, where):
                if not allowed.fit(name):
                    raise self._limits.refusal(what, name, table, setting)

        return check

    def _namespace(self, kind: str, *harmless: str) -> Check:
        allowed = self._limits.patterns("container", "host_namespaces")

        def check(value: object) -> None:
            mode = text(value, f"the {kind} namespace")
            if mode.startswith(CONTAINER):
                self._shared(f"{kind} namespace of", mode[len(CONTAINER) :])
            elif mode == "host":
                if not allowed.fit(kind):
                    raise self._limits.refusal(f"the {kind} namespace of", "the host", "container", "host_namespaces")
            elif mode and mode not in harmless:
                raise Refusal(f"does not allow the {kind} namespace {printable(mode)}, which it does not know")

        return check

    def _links(self) -> Check:
        return self._share("Links", lambda entry: entry.partition(":")[0].strip("/"))

    def _share(self, where: str, name_of: Callable[[str], str]) -> Check:
        def check(value: object) -> None:
            for entry in texts(value, where):
                self._shared(f"{where} of", name_of(entry))

        return check

    def _shared(self, what: str, name: str) -> None:
        if not self._limits.patterns("container", "share_with").fit(name):
            raise self._limits.refusal(f"the {what} the container", name, "container", "share_with")

    def _devices(self, value: object) -> None:
        for each in items(value, "Devices"):
            checks = harmless("pathincontainer cgrouppermissions") | {"pathonhost": self._binds.device}
            look(each, "Devices", checks)

    def _requests(self, value: object) -> None:
        one = self._named("device_requests", "devices by the driver")
        for each in items(value, "DeviceRequests"):
            look(each, "DeviceRequests", harmless("driver count deviceids capabilities options"))
            drivers = [inner for key, inner in pairs(each, "DeviceRequests").items() if key.casefold() == "driver"]
            one(next((driver for driver in drivers if driver), "default"))

    def _log(self, value: object) -> None:
        allowed = self._limits.patterns("container", "log_drivers")
        found = {key.casefold(): inner for key, inner in pairs(value, "LogConfig").items()}
        look(value, "LogConfig", {"type": self._named("log_drivers", "the log driver"), "config": None})
        driver = found.get("type")
        if driver in ("", None, "json-file", "local", "journald") or not allowed.fit(str(driver)):
            for name in pairs(found.get("config"), "LogConfig.Config"):
                if name not in HARMLESS_LOG_OPTIONS:
                    raise Refusal(
                        f"does not allow the option {printable(name)} of a log driver, which it does not know"
                    )

    def _storage(self, value: object) -> None:
        for name in pairs(value, "StorageOpt"):
            if name != "size":
                raise Refusal(f"does not allow the storage option {printable(name)}; it allows size")

    def _oom_score(self, value: object) -> None:
        if not isinstance(value, int) or (value < 0 and not self._limits.flag("container", "oom_protected")):
            raise Refusal("does not allow a container that the kernel spares (oom_protected in [rule.container] would)")


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def security_option(option: str) -> str:
    """As dockerd splits it: at "=", or else at ":"."""
    if option == "no-new-privileges":
        return "no-new-privileges=true"
    return option if "=" in option else option.replace(":", "=", 1)


def _empty(value: object) -> None:
    if value:
        raise Refusal("does not allow LxcConf or InitPath")
