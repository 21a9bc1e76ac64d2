"""Modules that a library imports and a plugin hardly ever uses: an engine waits for the start of a plugin."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType

_LOADING = threading.Lock()


def postpone(name: str, functions: Sequence[str] = (), *, is_package: bool = False, **given: object) -> None:
    """Have a module imported when something of it is wanted first, not when it is named.

    Until then a module without content stands in its place, which asks for the real one and hands on what that has.
    ``functions`` may be taken out of it by name, and have it imported when they are called; what is ``given`` is had
    without. ``is_package``: parts of it are imported by their own names.
    """
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def load(attribute: str) -> object:
        with _LOADING:  # two threads may want it first
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    def postponed(function: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            return load(function)(*args, **kwargs)  # type: ignore[operator]

        return call

    def load_first(attribute: str) -> object:
        if attribute == "__path__" and not is_package:
            raise AttributeError(attribute)  # "from it import" asks for that
        return postponed(attribute) if attribute in functions else load(attribute)

    stand_in.__dict__.update(given, __getattr__=load_first)
    sys.modules[name] = stand_in
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(importlib.import_module(parent), last, stand_in)


def restore(name: str) -> None:
    """Whoever imports it from now on has the real one, of which nothing was given in its place."""
    with _LOADING:
        if getattr(sys.modules.get(name), "__spec__", None) is None:
            sys.modules.pop(name, None)
    importlib.import_module(name)
