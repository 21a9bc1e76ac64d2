"""What an engine makes of a reply: the same bytes are a success for one and an error for another.

Sources: moby pkg/plugins/client.go and volume/drivers/{proxy,adapter}.go, podman libpod/plugin/volume_api.go,
Go's encoding/json; the cases were seen on Docker 20.10.24.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from .rawhttp import Reply

Version = tuple[int, int]
NEWEST: Version = (29, 7)

#: A name stands for a Go type, a dict for a struct, a list for a slice.
Shape = str | Mapping[str, "Shape"] | list["Shape"]

_ERR: dict[str, Shape] = {"Err": "string"}
_LISTED: dict[str, Shape] = {"Name": "string", "Mountpoint": "string"}


def _shape(rpc: str, version: Version) -> dict[str, Shape]:
    """The Go struct the reply is decoded into (moby volume/drivers/proxy.go, volume/volume.go)."""
    volume: dict[str, Shape] = dict(_LISTED)
    if version >= (1, 12):
        volume["Status"] = "map"
    if version >= (17, 7):
        volume["CreatedAt"] = "time"
    shapes: dict[str, dict[str, Shape]] = {
        "Plugin.Activate": {"Implements": ["string"]},
        "VolumeDriver.Mount": {"Mountpoint": "string", **_ERR},
        "VolumeDriver.Path": {"Mountpoint": "string", **_ERR},
        "VolumeDriver.Get": {"Volume": volume, **_ERR},
        "VolumeDriver.List": {"Volumes": [volume], **_ERR},
        "VolumeDriver.Capabilities": {"Capabilities": {"Scope": "string"}, **_ERR},
    }
    return shapes.get(rpc, _ERR)


@dataclass(frozen=True)
class Seen:
    """One call as the engine sees it: failed with ``error``, or decoded to ``value`` (keys spelled right)."""

    reply: Reply
    error: str | None = None
    value: dict[str, object] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.error is None


def docker_sees(rpc: str, reply: Reply, version: Version = NEWEST) -> Seen:
    """Exactly 200 is success, and then the body decides; any other status is an error with the body's text."""
    if reply.status != 200:
        return Seen(reply, error=f"{rpc}: {_text_of_error(reply, version)}")
    try:
        value = _decode(_shape(rpc, version), _first_json(reply.body))
        if version < (1, 8) and _item(_first_json(reply.body), "Err") is not None:
            raise ValueError("json: cannot unmarshal string into Go value of type error")
    except ValueError as error:
        return Seen(reply, error=str(error))
    assert isinstance(value, dict)
    if value.get("Err"):
        return Seen(reply, error=str(value["Err"]))
    return Seen(reply, value=value)


def podman_sees(rpc: str, reply: Reply) -> Seen:
    """Only the status counts; an error's body has to be JSON with Err, and Err in a 200 is never looked at."""
    if reply.status != 200:
        try:
            value = _decode(_ERR, reply.json)
        except ValueError as error:
            return Seen(reply, error=f"unmarshalling JSON response from endpoint: {error}")
        assert isinstance(value, dict)
        return Seen(reply, error=str(value.get("Err", "")))
    if rpc in ("VolumeDriver.Create", "VolumeDriver.Remove", "VolumeDriver.Unmount"):
        return Seen(reply)
    try:
        value = _decode(_shape(rpc, (1, 12)), reply.json)  # a CreatedAt would only have to be a string
    except ValueError as error:
        return Seen(reply, error=f"unmarshalling JSON response from endpoint: {error}")
    assert isinstance(value, dict)
    return Seen(reply, value=value)


def universal(reply: Reply) -> None:
    """What holds for every reply, so that each engine from 1.7 to 29 and each Podman reads it alike.

    JSON always; status 200 without an error text, or an error status with Err: one printable line.
    """
    try:
        value = reply.json
    except ValueError as error:
        raise AssertionError(f"status {reply.status} with a body that is not JSON: {reply.body[:300]!r}") from error
    assert value is None or isinstance(value, dict), f"the reply is neither an object nor null: {reply.body[:300]!r}"
    text = _item(value, "Err")
    if reply.status == 200:
        assert not text, f"an error with status 200 is a success for podman: {reply.body[:300]!r}"
        return
    assert reply.status >= 400, f"status {reply.status}: neither success nor error"
    assert isinstance(text, str), f"status {reply.status} without a text in Err: {reply.body[:300]!r}"
    assert text.strip(), f"status {reply.status} with an empty Err"
    assert text.isprintable(), f"an error text has to be one line without control characters: {text!r}"


def is_rfc3339(text: str) -> bool:
    """Whether Go's time.Time reads it: with T, and Z or an offset with a colon."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _text_of_error(reply: Reply, version: Version) -> str:
    raw = reply.body.decode("utf-8", "replace")
    if version < (1, 10):
        return raw
    try:
        text = _item(json.loads(raw), "Err")
    except ValueError:
        return raw
    return text if isinstance(text, str) and text else raw


def _first_json(body: bytes) -> object:
    """The first JSON value of the body; whatever follows is not read (json.Decoder)."""
    text = body.decode("utf-8", "replace").lstrip()
    if not text:
        raise ValueError("EOF")
    value: object = json.JSONDecoder().raw_decode(text)[0]
    return value


def _item(value: object, key: str) -> object:
    """A key of an object, whatever its case; null is absent."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name.lower() == key.lower() and item is not None:
                return item
    return None


def _decode(shape: Shape, value: object) -> object:
    """``value`` in the shape of a Go type: unknown keys dropped, null and absent dropped, ValueError otherwise."""
    if isinstance(shape, Mapping):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"json: cannot unmarshal {value!r:.80} into a struct")
        items = {key: (part, _item(value, key)) for key, part in shape.items()}
        return {key: _decode(part, item) for key, (part, item) in items.items() if item is not None}
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"json: cannot unmarshal {value!r:.80} into a slice")
        return [_decode(shape[0], item) for item in value]
    if shape == "map":
        if not isinstance(value, dict):
            raise ValueError(f"json: cannot unmarshal {value!r:.80} into a map")
        return value
    if not isinstance(value, str):
        raise ValueError(f"json: cannot unmarshal {value!r:.80} into a string")
    if shape == "time" and not is_rfc3339(value):
        raise ValueError(f'parsing time "{value}" as RFC 3339: cannot parse')
    return value
