"""VolumeDriver: the words of the wire on one side, plain values on the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest

from legacyhost.errors import InvalidRequest, NotServing
from legacyhost.rpc import Plugin, Reply
from legacyhost.surfaces.volume import SURFACE, Listing, VolumeInfo

CREATED = datetime(2024, 2, 29, 12, 0, 1, 999_999, tzinfo=UTC)


class Recorder:
    """A VolumeDriver that writes down what it is asked, and answers with what the test has put there."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.info = VolumeInfo("data", "/mnt/data", CREATED, {"state": "mounted", "holders": 2})
        self.listed = [("data", "/mnt/data"), ("other", "")]
        self.scope = "local"

    def create(self, name: str, options: Mapping[str, str]) -> None:
        self.asked.append(("create", name, dict(options)))

    def remove(self, name: str) -> None:
        self.asked.append(("remove", name))

    def mount(self, name: str, mount_id: str) -> str:
        self.asked.append(("mount", name, mount_id))
        return f"/mnt/{name}"

    def unmount(self, name: str, mount_id: str) -> None:
        self.asked.append(("unmount", name, mount_id))

    def path(self, name: str) -> str:
        self.asked.append(("path", name))
        return f"/mnt/{name}"

    def get(self, name: str) -> VolumeInfo:
        self.asked.append(("get", name))
        return self.info

    def list(self) -> Listing:
        return Listing(self.listed)

    def activated(self) -> None:
        self.asked.append(("activated",))


@pytest.fixture
def driver() -> Recorder:
    return Recorder()


@pytest.fixture
def call(driver: Recorder) -> Callable[[str, bytes], Reply]:
    plugin = Plugin("test", [(SURFACE, driver)])
    return lambda method, body: plugin.call(f"VolumeDriver.{method}", body)


@pytest.mark.parametrize(
    ("method", "body", "asked", "reply"),
    [
        ("Create", b'{"Name":"data","Opts":{"a":"b"}}', ("create", "data", {"a": "b"}), {}),
        ("Create", b'{"Name":"data","Opts":null}', ("create", "data", {}), {}),
        ("Create", b'{"Name":"data"}', ("create", "data", {}), {}),
        ("Remove", b'{"Name":"data"}', ("remove", "data"), {}),
        ("Mount", b'{"Name":"data","ID":"4711"}', ("mount", "data", "4711"), {"Mountpoint": "/mnt/data"}),
        ("Mount", b'{"Name":"data"}', ("mount", "data", ""), {"Mountpoint": "/mnt/data"}),
        ("Unmount", b'{"Name":"data","ID":"4711"}', ("unmount", "data", "4711"), {}),
        ("Unmount", b'{"Name":"data","ID":null}', ("unmount", "data", ""), {}),
        ("Path", b'{"Name":"data"}', ("path", "data"), {"Mountpoint": "/mnt/data"}),
    ],
)
def test_each_method_asks_the_driver_once(
    driver: Recorder,
    call: Callable[[str, bytes], Reply],
    method: str,
    body: bytes,
    asked: tuple[object, ...],
    reply: Mapping[str, object],
) -> None:
    """The fields of the request arrive as plain values, and the answer goes out under Docker's names."""
    assert call(method, body) == reply
    assert driver.asked == [asked]


def test_get_shows_a_volume_as_docker_wants_it(driver: Recorder, call: Callable[[str, bytes], Reply]) -> None:
    """The name that was asked, an RFC 3339 time with zone, and Status as an object."""
    assert call("Get", b'{"Name":"data"}') == {
        "Volume": {
            "Name": "data",
            "Mountpoint": "/mnt/data",
            "CreatedAt": "2024-02-29T12:00:01Z",
            "Status": {"state": "mounted", "holders": 2},
        }
    }


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))])
def test_created_at_has_the_one_form_that_does_not_fail_the_get(
    driver: Recorder, call: Callable[[str, bytes], Reply], zone: timezone
) -> None:
    """Docker takes a Get with any other form of time for "not found": T, seconds, and Z or +hh:mm."""
    driver.info = VolumeInfo("data", "", CREATED.astimezone(zone))
    reply = call("Get", b'{"Name":"data"}')
    volume = reply["Volume"]
    assert isinstance(volume, dict)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", volume["CreatedAt"])
    assert volume["Status"] == {}


@pytest.mark.parametrize("body", [b"{}", b"", b"null", b'{"Name":"ignored"}'])
def test_calls_without_arguments_take_any_body(
    driver: Recorder, call: Callable[[str, bytes], Reply], body: bytes
) -> None:
    """Docker sends {}, Podman nothing at all with List."""
    listed = [{"Name": "data", "Mountpoint": "/mnt/data"}, {"Name": "other", "Mountpoint": ""}]
    assert call("List", body) == {"Volumes": listed}
    assert call("Capabilities", body) == {"Capabilities": {"Scope": "local"}}
    driver.scope = "global"
    assert call("Capabilities", body) == {"Capabilities": {"Scope": "global"}}


def test_an_empty_list_is_a_list(driver: Recorder, call: Callable[[str, bytes], Reply]) -> None:
    """No volumes are [], not null and not an error."""
    driver.listed = []
    assert call("List", b"{}") == {"Volumes": []}


@pytest.mark.parametrize("method", ["Create", "Remove", "Mount", "Unmount", "Path", "Get"])
@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"Name":""}', b'{"Name":5}', b'{"Name":null,"ID":"1"}', b"[]"])
def test_without_a_name_nothing_is_done(
    driver: Recorder, call: Callable[[str, bytes], Reply], method: str, body: bytes
) -> None:
    """Above all the empty body, which is Docker's repetition of a call whose first attempt was cut off."""
    # An answered error to Get would make Docker forget the volume: it gets no answer, and asks again.
    expected = NotServing if method == "Get" and body in (b"", b"null") else InvalidRequest
    with pytest.raises(expected):
        call(method, body)
    assert driver.asked == []


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("Mount", b'{"Name":"data","ID":5}'),
        ("Unmount", b'{"Name":"data","ID":["4711"]}'),
        ("Create", b'{"Name":"data","Opts":["a=b"]}'),
        ("Create", b'{"Name":"data","Opts":{"port":22}}'),
    ],
)
def test_other_fields_of_a_wrong_type_do_nothing(
    driver: Recorder, call: Callable[[str, bytes], Reply], method: str, body: bytes
) -> None:
    """Every field is read before the driver hears of the call."""
    with pytest.raises(InvalidRequest, match=r"ID|Opts"):
        call(method, body)
    assert driver.asked == []


def test_the_driver_is_told_of_each_engine_that_has_started(driver: Recorder) -> None:
    """Perhaps after a crash that left something."""
    plugin = Plugin("test", [(SURFACE, driver)])
    assert plugin.call("Plugin.Activate", b"") == {"Implements": ["VolumeDriver"]}
    plugin.activated()
    assert driver.asked == [("activated",)]


def test_all_methods_of_the_protocol_are_there() -> None:
    """What Docker 1.8 to 29 and Podman call, and nothing else."""
    names = {"Create", "Remove", "Mount", "Unmount", "Path", "Get", "List", "Capabilities"}
    assert set(SURFACE.methods) == names
    assert (SURFACE.implements, SURFACE.prefix) == ("VolumeDriver", "VolumeDriver")
