"""The Debian package: how it is built, what is in it, and what its scripts do to a machine."""
