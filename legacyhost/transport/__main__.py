"""Stands on top of the copy: ``--shared FOLDER ARGUMENT…``, or else the arguments that sshfs has for ssh."""

import os
import sys

if sys.argv[1:2] == ["--shared"]:
    from legacyhost.transport import shared

    sys.exit(shared.main(sys.argv[2], sys.argv[3:]))
else:
    from legacyhost.transport import carry

    sys.exit(carry.main(sys.argv[1:], os.environ))
