"""What runs below the mounts, in processes of their own: the SSH connections.

``carry`` is run by sshfs in ssh's place, ``shared`` in a unit of its own for all volumes of an account. Both as
``python3 -I -S DIRECTORY/__main__.py`` from a copy of this package (mounts/tools.py), so that they outlive an upgrade
or a removal, with as little of the standard library as can be: a container waits.
"""
