"""``python3 inside MODULE.FUNCTION [ARGUMENT…]`` prints what it measured: a number, or several."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    module, _, function = sys.argv[1].partition(".")
    found = getattr(importlib.import_module(module), function)(*sys.argv[2:])
    print(*found if isinstance(found, tuple) else [found])
