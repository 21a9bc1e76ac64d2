"""A host for Docker's legacy plugins, managed by systemd."""

__version__ = "0.1.0"
