"""The only door to SSH and paramiko: whom to trust, how to log in, what may be done to a remote directory.

Import ``legacyhost.ssh.remote`` lazily: it loads paramiko (about 100 ms). ``target`` and ``hostkeys`` do not.
"""
