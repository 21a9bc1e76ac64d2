"""Any bytes where outsiders' bytes come in: what is read from engines, administrators, disks and servers.

Each target is a function of bytes that raises where a promise is broken; its seeds are in corpus/TARGET, bugs that were
found among them. The suite (``./run-tests fuzz``) takes each seed and some hundred examples made of them, the same each
time. Long, by hand, from tests/, each time others:

    python -m fuzz                              the targets
    python -m fuzz options --minutes 20         with atheris, which is led by coverage, where it is installed; else, or
                                                with --engine hypothesis, with hypothesis
    python -m fuzz options --replay FILE        one input again
    ./run-tests fuzz --minutes 20               all of them, in turn, in that time

What breaks a promise is kept as a file in the folder that ``--keep`` names (default: the current one). A new seed is a
file in corpus/TARGET.
"""

import sys
from pathlib import Path

# By hand nobody else sees to it: what is tried is what stands beside tests, not what is installed.
sys.path.insert(0, str(Path(__file__).parents[2]))
