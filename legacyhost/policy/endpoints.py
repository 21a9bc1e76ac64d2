"""The endpoints of the Docker Engine API, 1.12 to 1.5x, and the groups in which a policy names them.

``{}`` is one part of a path, ``{**}`` one or more: dockerd takes names with slashes for containers and images. An
endpoint that is not here is in no group; what is new in Docker is allowed where a policy names its path. OPTIONS is not
here: no client needs it, and newer Dockers hand it on to their extensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: method, path, groups, and behind "!" which check a restricting rule makes; "!refused": such a rule does not allow it.
TABLE = """
GET     /_ping                           ping read-only
HEAD    /_ping                           ping read-only
GET     /version                         ping read-only
GET     /info                            read-only
GET     /events                          read-only
GET     /system/df                       read-only
POST    /auth                            login

GET     /containers/json                 read-only containers
GET     /containers/ps                   read-only containers
GET     /containers/{**}/json            read-only containers
GET     /containers/{**}/top             read-only containers !top
GET     /containers/{**}/stats           read-only containers
GET     /containers/{**}/changes         read-only containers
GET     /containers/{**}/checkpoints     read-only containers
GET     /containers/{**}/logs            logs containers
POST    /containers/{**}/attach          attach containers
GET     /containers/{**}/attach/ws       attach containers
POST    /containers/{**}/resize          attach containers
POST    /containers/{**}/wait            containers
POST    /containers/create               containers !create
POST    /containers/{**}/start           containers !start
POST    /containers/{**}/stop            containers
POST    /containers/{**}/restart         containers
POST    /containers/{**}/kill            containers
POST    /containers/{**}/pause           containers
POST    /containers/{**}/unpause         containers
POST    /containers/{**}/rename          containers !rename
POST    /containers/{**}/update          containers !update
POST    /containers/prune                containers
DELETE  /containers/{**}                 containers
POST    /containers/{**}/checkpoints     checkpoints !refused
DELETE  /containers/{}/checkpoints/{}    checkpoints !refused

GET     /containers/{**}/archive         files
HEAD    /containers/{**}/archive         files
PUT     /containers/{**}/archive         files
GET     /containers/{**}/export          files
POST    /containers/{**}/copy            files

POST    /containers/{**}/exec            exec !exec
POST    /exec/{**}/start                 exec
POST    /exec/{**}/resize                exec
GET     /exec/{**}/json                  exec read-only

GET     /images/json                     read-only images
GET     /images/{**}/json                read-only images
GET     /images/{**}/history             read-only images
GET     /images/{**}/attestations        read-only images
GET     /images/search                   images
GET     /distribution/{**}/json          images
GET     /images/get                      images
GET     /images/{**}/get                 images
POST    /images/create                   images !pull
POST    /images/load                     images !load
POST    /images/{**}/tag                 images !tag
POST    /images/{**}/push                images
POST    /images/prune                    images
DELETE  /images/{**}                     images
POST    /commit                          images !commit

POST    /build                           build !build
POST    /build/prune                     build
POST    /build/cancel                    build
POST    /session                         build !buildkit
POST    /grpc                            build !buildkit

GET     /volumes                         read-only volumes
GET     /volumes/{**}                    read-only volumes
POST    /volumes/create                  volumes !volume
POST    /volumes/prune                   volumes
PUT     /volumes/{**}                    volumes !refused
DELETE  /volumes/{**}                    volumes

GET     /networks                        read-only networks
GET     /networks/                       read-only networks
GET     /networks/{**}                   read-only networks
POST    /networks/create                 networks !network
POST    /networks/{**}/connect           networks !connect
POST    /networks/{**}/disconnect        networks
POST    /networks/prune                  networks
DELETE  /networks/{**}                   networks

GET     /plugins                         read-only plugins
GET     /plugins/{**}/json               read-only plugins
GET     /plugins/privileges              plugins
POST    /plugins/pull                    plugins !refused
POST    /plugins/create                  plugins !refused
POST    /plugins/{**}/enable             plugins !refused
POST    /plugins/{**}/disable            plugins !refused
POST    /plugins/{**}/upgrade            plugins !refused
POST    /plugins/{**}/set                plugins !refused
POST    /plugins/{**}/push               plugins !refused
DELETE  /plugins/{**}                    plugins !refused

GET     /nodes                           read-only swarm
GET     /nodes/{}                        read-only swarm
GET     /services                        read-only swarm
GET     /services/{}                     read-only swarm
GET     /tasks                           read-only swarm
GET     /tasks/{}                        read-only swarm
GET     /services/{}/logs                logs swarm
GET     /tasks/{}/logs                   logs swarm
GET     /swarm                           swarm !refused
GET     /swarm/unlockkey                 swarm !refused
POST    /swarm/init                      swarm !refused
POST    /swarm/join                      swarm !refused
POST    /swarm/leave                     swarm !refused
POST    /swarm/update                    swarm !refused
POST    /swarm/unlock                    swarm !refused
POST    /services/create                 swarm !refused
POST    /services/{}/update              swarm !refused
DELETE  /services/{}                     swarm
POST    /nodes/{}/update                 swarm !refused
DELETE  /nodes/{}                        swarm !refused
GET     /secrets                         swarm
GET     /secrets/{}                      swarm
POST    /secrets/create                  swarm !refused
POST    /secrets/{}/update               swarm !refused
DELETE  /secrets/{}                      swarm
GET     /configs                         swarm
GET     /configs/{}                      swarm
POST    /configs/create                  swarm !refused
POST    /configs/{}/update               swarm !refused
DELETE  /configs/{}                      swarm

GET     /debug/vars                      debug
GET     /debug/pprof/                    debug
GET     /debug/pprof/{}                  debug
"""
#: What each group is, as an end to "may".
GROUPS: Mapping[str, str] = {
    "ping": "ask whether Docker is there and which version it is",
    "read-only": "look at what there is (lists, inspect, stats, events), which shows environment variables and options",
    "logs": "read the output of containers and services",
    "attach": "type into containers, and see what they print from then on",
    "containers": "make, start, stop, attach to and remove containers, and read their logs",
    "checkpoints": "make and remove checkpoints of containers",
    "files": "copy files out of and into containers",
    "exec": "run commands in containers",
    "images": "pull, push, tag, load, save, commit and remove images",
    "build": "build images",
    "volumes": "make and remove volumes",
    "networks": "make and remove networks, and connect containers to them",
    "plugins": "install, change and remove Docker's own plugins, which have the rights they ask for",
    "swarm": "do anything with the swarm: services, nodes, secrets, configs, its keys",
    "login": "check an account at a registry",
    "debug": "look into dockerd itself",
    "everything": "do everything, also what no other group has",
}


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One line of the table."""

    method: str
    path: str
    groups: frozenset[str]
    check: str
    parts: Sequence[str]

    def fits(self, parts: Sequence[str]) -> bool:
        """Whether a path is this one. Of ``{**}`` there is one at most, as in dockerd's routes."""
        own = self.parts
        if "{**}" not in own:
            return len(own) == len(parts) and all(b if a == "{}" else a == b for a, b in zip(own, parts, strict=True))
        here = own.index("{**}")
        behind = len(own) - here - 1
        if len(parts) < len(own) or list(parts[:here]) != list(own[:here]):
            return False
        return not behind or list(parts[-behind:]) == list(own[-behind:])


def _endpoint(line: str) -> Endpoint:
    method, path, *words = line.split()
    checks = [word[1:] for word in words if word.startswith("!")]
    groups = frozenset(word for word in words if not word.startswith("!"))
    return Endpoint(method, path, groups, checks[0] if checks else "", tuple(path.split("/")))


ALL: Sequence[Endpoint] = tuple(_endpoint(line) for line in TABLE.splitlines() if line)
_PLAIN = {(each.method, each.path): each for each in ALL if "{" not in each.path}
_BY_START: dict[tuple[str, str], list[Endpoint]] = {}
for _each in ALL:
    if "{" in _each.path:
        _BY_START.setdefault((_each.method, _each.parts[1]), []).append(_each)
for _several in _BY_START.values():  # the most particular first; dockerd has the same order where it matters
    _several.sort(key=lambda each: (-len(each.parts), "{**}" in each.parts))


def find(method: str, path: str) -> Endpoint | None:
    """The endpoint that dockerd runs for a clean path; None for one that is not known here."""
    if (found := _PLAIN.get((method, path))) is not None:
        return found
    parts = path.split("/")
    for each in _BY_START.get((method, parts[1]), ()):
        if each.fits(parts):
            return each
    return None
