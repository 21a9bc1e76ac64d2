"""Stands on top of the copy: ``--shared FOLDER ARGUMENT…``, or else the arguments that sshfs has for ssh."""

import os
import sys

# Run by its own name: as the directory it is in it would take Python half as long again to begin.
sys.path.insert(0, os.path.dirname(__file__))

if sys.argv[1:2] == ["--shared"]:
    from legacyhost.transport import shared

    sys.exit(shared.main(sys.argv[2], sys.argv[3:]))
else:
    from legacyhost.transport import carry

    sys.exit(carry.main(sys.argv[1:], os.environ))
