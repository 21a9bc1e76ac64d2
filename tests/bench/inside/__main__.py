"""``python3 inside MODULE.FUNCTION [ARGUMENT…]`` prints one number."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    module, _, function = sys.argv[1].partition(".")
    print(getattr(importlib.import_module(module), function)(*sys.argv[2:]))
