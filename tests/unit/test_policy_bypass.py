"""The bypass list: what somebody who may do little would try. Each request with its verdict, and words of the reason.

The users are those of the example policy (packaging/policies/policy.toml): ``ci`` may make containers that get
nothing of the host beside /srv/ci, ``deploy`` may run some images, ``prometheus`` may look. ``web`` is in a policy
below, which names paths, and denies before it allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from legacyhost import policy

EXAMPLE = (Path(__file__).parents[2] / "packaging" / "policies" / "policy.toml").read_text()
PATHS = """
[[rule]]
name = "no exec"
deny = ["/containers/*/exec", "exec"]

[[rule]]
name = "web"
who = ["web"]
allow = ["GET /containers/*/json", "POST /containers/web-*/restart", "POST /containers/web-*/start", "/_ping"]

[[rule]]
name = "all but the host"
who = ["dev"]
allow = ["everything"]
[rule.container]
"""
NETWORK = """
[[rule]]
allow = ["containers"]
[rule.network]
join = ["shop-*"]
"""
NAMES = """
[[rule]]
allow = ["containers", "images"]
[rule.container]
images = ["shop:prod"]
[rule.image]
make = ["shop:dev"]
load = true
"""
POLICIES = {
    "names": policy.load(NAMES),
    "shop": policy.load(NETWORK),
    **dict.fromkeys(["", "ci", "deploy", "prometheus", "admin", "nobody"], policy.load(EXAMPLE)),
    **dict.fromkeys(["web", "dev"], policy.load(PATHS)),
}
CREATE = "POST /v1.41/containers/create"
VOLUME = "POST /volumes/create"
ALLOW, DENY = True, False


def container(host: Mapping[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    return {"Image": "debian", **config, "HostConfig": host or {}}


def mount(kind: str, source: str = "", **more: Any) -> dict[str, Any]:
    return container({"Mounts": [{"Type": kind, "Source": source, "Target": "/x", **more}]})


BIND = {"type": "none", "o": "bind", "device": "/"}
#: name: user, method and path, body (an object, bytes, or None), verdict, words of the reason.
CASES: dict[str, tuple[str, str, object, bool, str]] = {
    # What everybody of them is there for.
    "a container": ("ci", CREATE, container(), ALLOW, ""),
    "as docker run sends it": (
        "ci",
        CREATE,
        container({"Binds": None, "Privileged": False, "OomScoreAdj": 0, "MaskedPaths": None, "Mounts": []}),
        ALLOW,
        "",
    ),
    "a bind that is named": ("ci", CREATE, container({"Binds": ["/srv/ci/x:/x:rw,z"]}), ALLOW, ""),
    "a read-only bind": ("ci", CREATE, container({"Binds": ["/etc/ssl/certs:/x:ro"]}), ALLOW, ""),
    "a named volume": ("ci", CREATE, container({"Binds": ["ci-a:/x"]}), ALLOW, ""),
    "a capability that is named": ("ci", CREATE, container({"CapAdd": ["cap_net_bind_service"]}), ALLOW, ""),
    "an image that is named": ("deploy", CREATE, container(Image="registry.example.org/a/b:1"), ALLOW, ""),
    "the same image by its long name": ("deploy", CREATE, container(Image="docker.io/library/postgres:16"), ALLOW, ""),
    "a pull that is named": ("deploy", "POST /images/create?fromImage=postgres&tag=16", None, ALLOW, ""),
    "looking": ("prometheus", "GET /v1.41/containers/json?all=1", None, ALLOW, ""),
    "the greeting": ("nobody", "HEAD /_ping", None, ALLOW, ""),
    "the administrator": ("admin", CREATE, container({"Privileged": True}), ALLOW, ""),
    "no certificate": ("", "POST /plugins/pull?remote=x", [], ALLOW, ""),
    # The path.
    "another version": ("ci", "POST /v1.99/containers/create", container({"Privileged": True}), DENY, "privileged"),
    "no version": ("ci", "POST /containers/create", container({"Privileged": True}), DENY, "privileged"),
    "a version that is none": ("ci", "POST /v..1/containers/create", container({"Privileged": True}), DENY, "privil"),
    "two versions": ("prometheus", "GET /v1.41/v1.41/info", None, DENY, "no rule allows"),
    "a capital version": ("prometheus", "GET /V1.41/info", None, DENY, "no rule allows"),
    "two slashes": ("admin", "POST //containers/create", container(), DENY, "not clean"),
    "a dot": ("admin", "POST /./containers/create", container(), DENY, "not clean"),
    "two dots": ("admin", "POST /info/../containers/create", container(), DENY, "not clean"),
    "two dots, encoded": ("admin", "GET /info/%2e%2E/secrets", None, DENY, "not clean"),
    "a slash, encoded": ("prometheus", "GET /containers/a%2Farchive", None, DENY, "no rule allows"),
    "letters, encoded": ("ci", "POST /%63ontainers/create", container({"Privileged": True}), DENY, "privileged"),
    "encoded twice": ("ci", "POST /%2563ontainers/create", container(), DENY, "no rule allows"),
    "an encoding that is none": ("admin", "GET /containers/%zz/json", None, DENY, "no code of a character"),
    "a path that is not UTF-8": ("admin", "GET /containers/%ff/json", None, DENY, "not UTF-8"),
    "a NUL in the path": ("admin", "GET /containers/a%00/json", None, DENY, "printed"),
    "a line break in the path": ("web", "GET /containers/a%0a/json", None, DENY, "printed"),
    "capital letters in the path": ("ci", "POST /Containers/Create", container(), DENY, "no rule allows"),
    "a slash at the end": ("ci", "POST /containers/create/", container(), DENY, "no rule allows"),
    "a whole URL": ("ci", "POST http://docker/v1.41/containers/create", container({"Privileged": True}), DENY, "priv"),
    "a fragment": ("admin", "GET /info#/containers/json", None, DENY, "#"),
    "no path": ("admin", "OPTIONS *", None, DENY, "begin"),
    "only a host": ("admin", "CONNECT docker:80", None, DENY, "begin"),
    "an extension's OPTIONS": ("prometheus", "OPTIONS /extension/x", None, DENY, "no rule allows"),
    "a small method": ("ci", "post /containers/create", container(), DENY, "no rule allows"),
    "a method that there is not": ("prometheus", "PUT /info", None, DENY, "no rule allows"),
    "something new in Docker": ("ci", "POST /containers/a/escape", None, DENY, "no rule allows"),
    "something new, under everything": ("dev", "POST /containers/a/escape", None, DENY, "does not know"),
    # What only looks like looking.
    "attaching by websocket": ("prometheus", "GET /containers/a/attach/ws?stdin=1", None, DENY, "no rule allows"),
    "reading a file": ("prometheus", "GET /containers/a/archive?path=/etc/shadow", None, DENY, "no rule allows"),
    "exporting a container": ("prometheus", "GET /containers/a/export", None, DENY, "no rule allows"),
    "processes": ("prometheus", "GET /containers/a/top?ps_args=-eo%20pid,args", None, ALLOW, ""),
    "processes of the host by ps": (
        "prometheus",
        "GET /containers/a/top?ps_args=-eorss%3DPID,args",
        None,
        DENY,
        "ps to be",
    ),
    "processes of the host by ps, twice": (
        "ci",
        "GET /containers/a/top?ps_args=a&ps_args=-eorss=PID",
        None,
        DENY,
        "ps to be",
    ),
    "processes of the host by ps, for who may all": (
        "admin",
        "GET /containers/a/top?ps_args=-orss=PID",
        None,
        ALLOW,
        "",
    ),
    "saving images": ("prometheus", "GET /images/get?names=a", None, DENY, "no rule allows"),
    "saving one image": ("prometheus", "GET /images/a/b/get", None, DENY, "no rule allows"),
    "secrets": ("prometheus", "GET /secrets", None, DENY, "nobody else"),
    "configs": ("prometheus", "GET /configs/a", None, DENY, "nobody else"),
    "the key of the swarm": ("prometheus", "GET /swarm/unlockkey", None, DENY, "nobody else"),
    "the tokens of the swarm": ("prometheus", "GET /swarm", None, DENY, "nobody else"),
    "dockerd's memory": ("prometheus", "GET /debug/pprof/heap", None, DENY, "nobody else"),
    # A container that has the host.
    "every capability": ("ci", CREATE, container({"CapAdd": ["ALL"]}), DENY, "capability ALL"),
    "every capability as a text": ("ci", CREATE, container({"CapAdd": "ALL"}), DENY, "no list"),
    "a capability with its prefix": ("ci", CREATE, container({"CapAdd": ["CAP_SYS_ADMIN"]}), DENY, "SYS_ADMIN"),
    "a small capability": ("ci", CREATE, container({"CapAdd": ["sys_admin"]}), DENY, "sys_admin"),
    "processes of the host": ("ci", CREATE, container({"PidMode": "host"}), DENY, "pid namespace"),
    "memory of the host": ("ci", CREATE, container({"IpcMode": "host"}), DENY, "ipc namespace"),
    "names of the host": ("ci", CREATE, container({"UTSMode": "host"}), DENY, "uts namespace"),
    "users of the host": ("ci", CREATE, container({"UsernsMode": "host"}), DENY, "user namespace"),
    "cgroups of the host": ("ci", CREATE, container({"CgroupnsMode": "host"}), DENY, "cgroup namespace"),
    "the host's network": ("ci", CREATE, container({"NetworkMode": "host"}), DENY, "network host"),
    "the host's network as an endpoint": (
        "ci",
        CREATE,
        {**container(), "NetworkingConfig": {"EndpointsConfig": {"host": {}}}},
        DENY,
        "network host",
    ),
    "processes of a container": ("ci", CREATE, container({"PidMode": "container:db"}), DENY, "share_with"),
    "network of a container": ("ci", CREATE, container({"NetworkMode": "container:db"}), DENY, "share_with"),
    "volumes of a container": ("ci", CREATE, container({"VolumesFrom": ["db:ro"]}), DENY, "share_with"),
    "links to a container": ("ci", CREATE, container({"Links": ["/db:a"]}), DENY, "share_with"),
    "a device": ("ci", CREATE, container({"Devices": [{"PathOnHost": "/dev/sda"}]}), DENY, "/dev/sda"),
    "a device rule": ("ci", CREATE, container({"DeviceCgroupRules": ["b *:* rwm"]}), DENY, "device rule"),
    "a CDI device": ("ci", CREATE, container({"DeviceRequests": [{"Driver": "cdi"}]}), DENY, "cdi"),
    "a GPU": ("ci", CREATE, container({"DeviceRequests": [{"Count": -1}]}), DENY, "default"),
    "no seccomp": ("ci", CREATE, container({"SecurityOpt": ["seccomp=unconfined"]}), DENY, "seccomp"),
    "no AppArmor, with a colon": ("ci", CREATE, container({"SecurityOpt": ["apparmor:unconfined"]}), DENY, "apparmor"),
    "no labels": ("ci", CREATE, container({"SecurityOpt": ["label=disable"]}), DENY, "label"),
    "new privileges": ("ci", CREATE, container({"SecurityOpt": ["no-new-privileges=false"]}), DENY, "no-new-priv"),
    "no masked paths": ("ci", CREATE, container({"MaskedPaths": []}), DENY, "masked paths"),
    "no read-only paths": ("ci", CREATE, container({"ReadonlyPaths": []}), DENY, "read-only paths"),
    "kernel parameters": ("ci", CREATE, container({"Sysctls": {"kernel.shmmax": "1"}}), DENY, "kernel.shmmax"),
    "another runtime": ("ci", CREATE, container({"Runtime": "evil"}), DENY, "runtime evil"),
    "another cgroup": ("ci", CREATE, container({"CgroupParent": "/"}), DENY, "parent cgroup"),
    "a log elsewhere": ("ci", CREATE, container({"LogConfig": {"Type": "syslog"}}), DENY, "log driver syslog"),
    "a log elsewhere by option": (
        "ci",
        CREATE,
        container({"LogConfig": {"Config": {"syslog-address": "tcp://x"}}}),
        DENY,
        "syslog-address",
    ),
    "annotations": ("ci", CREATE, container({"Annotations": {"run.oci.x": "1"}}), DENY, "annotation"),
    "options of storage": ("ci", CREATE, container({"StorageOpt": {"dm.x": "1"}}), DENY, "dm.x"),
    "spared by the kernel": ("ci", CREATE, container({"OomScoreAdj": -1000}), DENY, "oom_protected"),
    "a field that is new": ("ci", CREATE, container({"HostRoot": True}), DENY, "HostConfig.HostRoot"),
    "a field that is new, above": ("ci", CREATE, container(HostRoot=True), DENY, "HostRoot"),
    # Files of the host.
    "the root": ("ci", CREATE, container({"Binds": ["/:/host"]}), DENY, "bind mount of /;"),
    "a neighbour": ("ci", CREATE, container({"Binds": ["/srv/cix:/x"]}), DENY, "/srv/cix"),
    "dots in a source": ("ci", CREATE, container({"Binds": ["/srv/ci/../../etc:/x"]}), DENY, "that is /etc"),
    "slashes in a source": ("ci", CREATE, container({"Binds": ["//etc:/x"]}), DENY, "etc"),
    "labelling what is read-only": ("ci", CREATE, container({"Binds": ["/etc/ssl/certs:/x:ro,z"]}), DENY, "labels"),
    "writing to what is read-only": ("ci", CREATE, container({"Binds": ["/etc/ssl/certs:/x"]}), DENY, "read-only"),
    "Docker's socket": ("ci", CREATE, container({"Binds": ["/run/docker.sock:/x"]}), DENY, "docker.sock"),
    "a mount": ("ci", CREATE, mount("bind", "/etc"), DENY, "/etc"),
    "a mount in capitals": ("ci", CREATE, mount("BIND", "/etc"), DENY, "kind of mount"),
    "a mount of no kind": ("ci", CREATE, mount("", "/etc"), DENY, "kind of mount"),
    "a mount with a backslash": ("ci", CREATE, mount("bind", "\\etc"), DENY, "absolute path"),
    "a relative mount": ("ci", CREATE, mount("bind", "etc"), DENY, "absolute path"),
    "a pipe": ("ci", CREATE, mount("npipe", "/x"), DENY, "npipe"),
    "a cluster's volume": ("ci", CREATE, mount("cluster", "ci-x"), DENY, "cluster"),
    "shared mounts": (
        "ci",
        CREATE,
        mount("bind", "/srv/ci", BindOptions={"Propagation": "rshared"}),
        DENY,
        "shared_mounts",
    ),
    "shared mounts as a mode": ("ci", CREATE, container({"Binds": ["/srv/ci:/x:shared"]}), DENY, "shared_mounts"),
    "a bind of too many parts": ("ci", CREATE, container({"Binds": ["/srv/ci:/x:ro:/etc"]}), DENY, "cannot read"),
    "a local volume that is a bind": (
        "ci",
        CREATE,
        mount("volume", "ci-x", VolumeOptions={"DriverConfig": {"Name": "local", "Options": BIND}}),
        DENY,
        "volume option",
    ),
    "the same beforehand": ("ci", VOLUME, {"Name": "ci-x", "DriverOpts": BIND}, DENY, "volume option"),
    "the same with a driver named": (
        "ci",
        VOLUME,
        {"Name": "ci-x", "Driver": "local", "driverOpts": {"device": "/"}},
        DENY,
        "volume option",
    ),
    "another driver": ("ci", VOLUME, {"Name": "ci-x", "Driver": "convoy"}, DENY, "volume driver"),
    "another driver for all": ("ci", CREATE, container({"VolumeDriver": "convoy"}), DENY, "volume driver"),
    "somebody else's volume": ("ci", CREATE, container({"Binds": ["db:/x"]}), DENY, "volume db"),
    "somebody else's volume as a mount": ("ci", CREATE, mount("volume", "db"), DENY, "volume db"),
    "a volume of the cluster": ("ci", VOLUME, {"Name": "ci-x", "ClusterVolumeSpec": {}}, DENY, "ClusterVolumeSpec"),
    # JSON.
    "another case": ("ci", CREATE, {"Image": "a", "hostCONFIG": {"PRIVILEGED": True}}, DENY, "privileged"),
    "beyond ASCII": ("ci", CREATE, {"Image": "a", "Ho\u017ftConfig": {"Privileged": True}}, DENY, "privileged"),
    "Kelvin": ("ci", CREATE, container({"Networ\u212aMode": "host"}), DENY, "network host"),
    "escaped": ("ci", CREATE, b'{"Image":"a","HostConfig":{"\\u0050rivileged":true}}', DENY, "privileged"),
    "HostConfig twice": ("ci", CREATE, b'{"HostConfig":{"Privileged":true},"HostConfig":{}}', DENY, "privileged"),
    "HostConfig twice, turned": ("ci", CREATE, b'{"HostConfig":{},"hostConfig":{"Privileged":true}}', DENY, "twice"),
    "a field twice": ("ci", CREATE, b'{"HostConfig":{"Privileged":false,"privileged":true}}', DENY, "twice"),
    "above HostConfig, as old ones had it": ("ci", CREATE, {"Image": "a", "Privileged": True}, DENY, "privileged"),
    "something behind it": ("ci", CREATE, b'{"Image":"a"} {"HostConfig":{"Privileged":true}}', DENY, "plain JSON"),
    "NaN": ("ci", CREATE, b'{"Image":"a","Memory":NaN}', DENY, "plain JSON"),
    "not UTF-8": ("ci", CREATE, b'{"Image":"a\xff"}', DENY, "plain JSON"),
    "half a character": ("ci", CREATE, b'{"HostConfig":{"Binds":["/srv/ci/\\ud800:/x"]}}', DENY, "half a character"),
    "a byte order mark": ("ci", CREATE, b'\xef\xbb\xbf{"Image":"a"}', DENY, "plain JSON"),
    "very deep": ("ci", CREATE, b'{"Cmd":' + b"[" * 50_000, DENY, "plain JSON"),
    "a very long number": ("ci", CREATE, b'{"Memory":' + b"9" * 5000 + b"}", DENY, "plain JSON"),
    "a list": ("ci", CREATE, [], DENY, "no JSON object"),
    "null": ("ci", CREATE, b"null", DENY, "no JSON object"),
    "HostConfig as a list": ("ci", CREATE, {"HostConfig": [{"Privileged": True}]}, DENY, "no object"),
    "a switch as a text": ("ci", CREATE, container({"Privileged": "true"}), DENY, "privileged"),
    "a body that was left out": ("ci", CREATE, None, DENY, "needs to see the body"),
    # A HostConfig elsewhere.
    "at the start": ("ci", "POST /v1.23/containers/a/start", {"Privileged": True}, DENY, "privileged"),
    "at the start, unseen": ("ci", "POST /v1.23/containers/a/start chunked", None, DENY, "needs to see the body"),
    "at the start, where only that is allowed": (
        "web",
        "POST /v1.23/containers/web-1/start",
        {"Privileged": True},
        DENY,
        "start with other",
    ),
    "the same unseen": ("web", "POST /v1.18/containers/web-1/start chunked", None, DENY, "start with other"),
    "the same of a version that is none": ("web", "POST /v..1/containers/web-1/start", {}, DENY, "start with other"),
    "a start, where only that is allowed": ("web", "POST /v1.23/containers/web-1/start", None, ALLOW, ""),
    "the same by a newer client": ("web", "POST /v1.24/containers/web-1/start", {}, ALLOW, ""),
    "the same by curl": ("web", "POST /containers/web-1/start chunked", None, ALLOW, ""),
    "at the start, none": ("ci", "POST /containers/a/start", None, ALLOW, ""),
    "a checkpoint's directory": ("ci", "POST /containers/a/start?checkpoint-dir=/etc", None, DENY, "checkpoint-dir"),
    "in an update": ("ci", "POST /containers/a/update", {"Devices": [{"PathOnHost": "/dev/sda"}]}, DENY, "/dev/sda"),
    "a privileged command": ("ci", "POST /containers/a/exec", {"Cmd": ["sh"], "pRIVILEGED": True}, DENY, "privileged"),
    "a command, unseen": ("ci", "POST /containers/a/exec chunked", None, DENY, "needs to see the body"),
    "a command": ("ci", "POST /containers/a/exec", {"Cmd": ["sh"], "Privileged": False}, ALLOW, ""),
    "a command under a name with a slash": ("web", "POST /containers/a/b/exec", {}, DENY, "no exec"),
    "a command, encoded": ("web", "POST /v1.41/containers/a/e%78ec", {}, DENY, "no exec"),
    # Networks.
    "a network that is named": ("shop", CREATE, container({"NetworkMode": "shop-a"}), ALLOW, ""),
    "no network at all": ("shop", CREATE, container({"NetworkMode": "none"}), ALLOW, ""),
    "a network as an endpoint": (
        "shop",
        CREATE,
        container(NetworkingConfig={"EndpointsConfig": {"shop-a": {}}}),
        ALLOW,
        "",
    ),
    "the bridge": ("shop", CREATE, container({"NetworkMode": "bridge"}), DENY, "network bridge"),
    "the bridge by default": ("shop", CREATE, container({"NetworkMode": "default"}), DENY, "network bridge"),
    "the bridge by saying nothing": ("shop", CREATE, container(), DENY, "network bridge"),
    "the bridge as an endpoint": (
        "shop",
        CREATE,
        container({"NetworkMode": "shop-a"}, NetworkingConfig={"EndpointsConfig": {"default": None}}),
        DENY,
        "network bridge",
    ),
    "the bridge at the start": ("shop", "POST /v1.23/containers/a/start", b"{      }", DENY, "network bridge"),
    "an object without anything at the start": ("shop", "POST /containers/a/start", {}, ALLOW, ""),
    # More than anybody needs.
    "very many values": ("ci", CREATE, b'{"Cmd":[' + b"[]," * 200_000 + b"[]]}", DENY, "more than 50000 values"),
    "very many binds": ("ci", CREATE, container({"Binds": ["/srv/ci:/x"] * 1001}), DENY, "more than 1000 entries"),
    "very many volumes": ("ci", CREATE, container(Volumes=dict.fromkeys(map(str, range(1001)))), DENY, "1000 entries"),
    "very many directories": (
        "ci",
        CREATE,
        container({"Binds": [f"/srv/ci/{number}:/x" for number in range(201)]}),
        DENY,
        "more than 200 directories",
    ),
    "one directory very often": ("ci", CREATE, container({"Binds": ["/srv/ci/a:/x"] * 1000}), ALLOW, ""),
    "a very long source": ("ci", CREATE, container({"Binds": ["/srv/ci" + "/a" * 2_000_000 + ":/x"]}), DENY, "longer"),
    "a very deep source": ("ci", CREATE, container({"Binds": ["/srv/ci" + "/a" * 2_000 + ":/x"]}), DENY, "500 direct"),
    # Images and builds.
    "another image": ("deploy", CREATE, container(Image="evil"), DENY, "image evil"),
    "an image of another tag": ("deploy", CREATE, container(Image="postgres:17"), DENY, "postgres:17"),
    "a registry that begins alike": ("deploy", CREATE, container(Image="registry.example.org.evil/a"), DENY, "evil"),
    "an image as a mount": ("deploy", CREATE, mount("image", "evil") | {"Image": "postgres:16"}, DENY, "image evil"),
    "no image": ("deploy", CREATE, {"HostConfig": {}}, DENY, "without an image"),
    "another image under a good name": (
        "deploy",
        "POST /images/evil/tag?repo=registry.example.org/a",
        None,
        DENY,
        "giving an image the name",
    ),
    "a container under a good name": ("deploy", "POST /commit?container=a&repo=postgres&tag=16", None, DENY, "name"),
    "an image from a file": ("deploy", "POST /images/load", None, DENY, "loaded"),
    "an image from an address": ("deploy", "POST /images/create?fromSrc=http://x", None, DENY, "imported"),
    "an import that Docker is to fetch": (
        "ci",
        "POST /images/create?fromSrc=http://x",
        None,
        DENY,
        "fetching http://x",
    ),
    "an import": ("ci", "POST /images/create?fromSrc=-&repo=a chunked", None, ALLOW, ""),
    "another pull": ("deploy", "POST /images/create?fromImage=evil", None, DENY, "evil"),
    "another pull by its tag": (
        "deploy",
        "POST /images/create?fromImage=postgres:16&tag=17",
        None,
        DENY,
        "postgres:17",
    ),
    "a pull with its tag twice": ("deploy", "POST /images/create?fromImage=postgres:15&tag=16", None, ALLOW, ""),
    "another name by its tag": ("names", "POST /images/x/tag?repo=shop:dev&tag=prod", None, DENY, "shop:prod"),
    "another name of an import": (
        "names",
        "POST /images/create?fromSrc=-&repo=shop:dev&tag=prod",
        [],
        DENY,
        "shop:prod",
    ),
    "another name of a commit": ("names", "POST /commit?container=a&repo=shop:dev&tag=prod", None, DENY, "shop:prod"),
    "a name with two tags": ("names", CREATE, container(Image="shop:prod:x"), DENY, "image shop:prod:x"),
    "all tags": ("deploy", "POST /images/create?fromImage=postgres", None, DENY, "postgres"),
    "two names": ("deploy", "POST /images/create?fromImage=postgres:16&fromImage=evil", None, DENY, "twice"),
    "a semicolon": ("deploy", "POST /images/create?fromImage=postgres:16;fromImage=evil", None, DENY, "semicolon"),
    "a form in the body": (
        "deploy",
        "POST /images/create?fromImage=postgres&tag=16 chunked",
        None,
        DENY,
        "Content-Length: 0",
    ),
    "a build with the host's network": ("ci", "POST /build?networkmode=host", None, DENY, "network host"),
    "a build in a container's network": ("ci", "POST /build?networkmode=container:db", None, DENY, "container:db"),
    "a build from an address": ("ci", "POST /build?remote=http://x/", None, DENY, "fetching"),
    "a build in another cgroup": ("ci", "POST /build?cgroupparent=/x", None, DENY, "cgroupparent"),
    "a build with something new": ("ci", "POST /build?host=1", None, DENY, "parameter host"),
    "a build with a form in the body": ("ci", "POST /build?t=a chunked", None, DENY, "sent_context"),
    "BuildKit": ("dev", "POST /grpc", None, DENY, "buildkit"),
    "BuildKit's session": ("dev", "POST /session", None, DENY, "buildkit"),
    "BuildKit by parameter": ("dev", "POST /build?version=2", None, DENY, "buildkit"),
    # Docker itself, and the swarm.
    "a plugin": ("ci", "POST /plugins/pull?remote=x", [], DENY, "nobody else"),
    "a plugin's settings": ("ci", "POST /plugins/a/b/set", [], DENY, "nobody else"),
    "a plugin, under everything": ("dev", "POST /plugins/pull?remote=x", [], DENY, "nothing looks"),
    "the token with which a host joins": ("dev", "GET /v1.41/swarm", None, DENY, "nothing looks"),
    "the key that unlocks": ("dev", "GET /swarm/unlockkey", None, DENY, "nothing looks"),
    "a swarm": ("dev", "POST /swarm/init", {}, DENY, "nothing looks"),
    "a service": ("dev", "POST /services/create", {"TaskTemplate": {}}, DENY, "nothing looks"),
    "another service": ("dev", "POST /services/a/update", {}, DENY, "nothing looks"),
    "a checkpoint": ("dev", "POST /containers/a/checkpoints", {"CheckpointDir": "/etc"}, DENY, "nothing looks"),
    "a bridge of the host": (
        "dev",
        "POST /networks/create",
        {"Name": "a", "Options": {"com.docker.network.bridge.name": "br0"}},
        DENY,
        "network option",
    ),
    "the host's line": ("dev", "POST /networks/create", {"Name": "a", "Driver": "macvlan"}, DENY, "macvlan"),
    "another network": ("deploy", "POST /networks/db/connect", {"Container": "a"}, DENY, "network db"),
    "the host's network later": ("dev", "POST /networks/host/connect", {"Container": "a"}, DENY, "network host"),
    # Who.
    "nobody": ("nobody", "GET /containers/json", None, DENY, "nobody may use ping"),
    "almost somebody": ("deploy", "POST /containers/a/exec", {}, DENY, "no rule allows"),
}


def asked(user: str, target: str, body: object) -> policy.Question:
    """As Docker asks; "chunked" behind the path is a body that is not shown."""
    method, uri, *chunked = target.split(" ")
    if body is None:
        return policy.Question(user, method, uri, {} if chunked else {"Content-Length": "0"})
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Length": str(len(data)), "Content-Type": "application/json"}
    return policy.Question(user, method, uri, headers, data)


@pytest.mark.parametrize("name", CASES)
def test_a_request_has_its_verdict(name: str) -> None:
    """And the reason says what it is about, in one line."""
    user, target, body, allowed, words = CASES[name]
    decision = POLICIES[user].decide(asked(user, target, body))
    assert decision.allowed is allowed, decision.reason
    assert words in decision.reason
    assert decision.reason.isprintable()
    assert len(decision.reason) < 700


def respelt(value: Any) -> Any:
    """The same object to Go, with the names of its fields in another case; the name of a network is none."""
    if isinstance(value, dict):
        return {key if key.islower() else key.swapcase(): respelt(inner) for key, inner in value.items()}
    return [respelt(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name][3]])
def test_what_is_denied_stays_denied_however_it_is_spelt(name: str) -> None:
    """Keys in another case or twice, another version, a path with codes for letters, a whole URL."""
    user, target, body, *_ = CASES[name]
    method, uri, *more = target.split(" ")
    path, mark, query = uri.partition("?")
    begins = path.startswith("/")
    paths = [f"/v1.24{path}", f"http://x{path}", path.replace("e", "%65")] if begins else []
    targets = [" ".join([method, other + mark + query, *more]) for other in paths]
    bodies = [body, respelt(body)]
    if isinstance(body, dict):
        whole = json.dumps(body)
        bodies += [whole[:-1].encode() + b"," + whole[1:].encode(), b" \t\r\n" + whole.encode() + b"\n"]
    for other in (target, *targets):
        for content in bodies:
            assert not POLICIES[user].decide(asked(user, other, content)).allowed, (other, content)


@pytest.mark.parametrize(
    ("user", "nameless", "rule"),
    [
        ("", False, "this machine"),
        ("no certificate", False, ""),
        ("", True, ""),
        ("ops-1", False, "administrators"),
        ("Admin", False, ""),
        ("*", False, ""),
    ],
)
def test_who_is_who(user: str, nameless: bool, rule: str) -> None:
    """A certificate that is called "no certificate", or nothing at all, is not nobody's."""
    question = policy.Question(user, "GET", "/info", nameless=nameless)
    assert POLICIES["ci"].decide(question).rule == rule
