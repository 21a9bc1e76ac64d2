"""System tests: whole Debian machines with a real systemd, Docker, Podman, FUSE and sshd (needs root)."""
