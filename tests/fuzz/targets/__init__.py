"""All targets."""

from __future__ import annotations

from . import (
    authz,
    certificates,
    config,
    credentials,
    hostkeys,
    options,
    otherplugin,
    policy,
    records,
    sftp,
    transport,
    wire,
)

TARGETS = {
    target.name: target
    for target in (
        wire.TARGET,
        authz.TARGET,
        options.TARGET,
        hostkeys.TARGET,
        certificates.TARGET,
        transport.TARGET,
        records.RECORD,
        records.HOLD,
        records.CONNECTION,
        config.TARGET,
        credentials.TARGET,
        otherplugin.TARGET,
        policy.TARGET,
        sftp.TARGET,
    )
}
