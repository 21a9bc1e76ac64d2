"""The subsystems of Docker's plugin handshake, one file each."""
