"""Commands and files inside a running machine, reached from the host through its namespaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from .cgroups import directories_of, joining

T = TypeVar("T")
Command = str | Sequence[str]
Done = subprocess.CompletedProcess[str]

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def children(pid: int) -> list[int]:
    """The child processes of a process; none if it is gone."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return []


class Background(subprocess.Popen[str]):
    """A command running inside a machine. Signals go to the command itself, SIGKILL to all of its group."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command (the process with this pid is only the nsenter that waits for it)."""
        if self.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            inner = children(self.pid)
            if sig == signal.SIGKILL or not inner:
                os.killpg(self.pid, sig)
            for pid in inner:
                os.kill(pid, sig)

    def end(self) -> None:
        """Kill what is left of it and close its pipes."""
        self.kill()
        self.wait(10)
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()


class Inside:
    """What can be done inside a machine; `Machine` adds switching it on and off."""

    root: Path
    """The machine's file system as the host sees it, without what is mounted inside while it runs."""

    _nspawn: subprocess.Popen[bytes] | None = None

    def __init__(self) -> None:
        self._background: list[Background] = []

    @property
    def booted(self) -> bool:
        """Whether it is switched on (it may still be starting or already be stopping)."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def leader(self) -> int:
        """The process id, on the host, of the machine's PID 1. Raises RuntimeError if there is none."""
        if self._nspawn is not None:
            for pid in children(self._nspawn.pid):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/exe").readlink().name != "systemd-nspawn":
                        return pid
        raise RuntimeError("the machine is not running")

    def _enter(self, command: Command, env: Mapping[str, str] | None) -> list[str]:
        """The argument list that runs a command in all of the machine's namespaces and in its cgroups."""
        leader = self.leader
        cgroups = []
        for directory in directories_of(leader):
            if directory.name == "init.scope":  # beside systemd's own: a v2 cgroup with children has no processes
                cgroups.append(directory.with_name("harness.scope"))
                cgroups[-1].mkdir(exist_ok=True)
            else:
                cgroups.append(directory)
        inner = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        variables = [f"{name}={value}" for name, value in {**ENVIRONMENT, **(env or {})}.items()]
        return joining(cgroups, ["nsenter", "-t", str(leader), "-a", "env", "-i", *variables, *inner])

    def popen(self, command: Command, *, env: Mapping[str, str] | None = None, **options: Any) -> Background:
        """Start a command inside, in the background; `options` go to Popen (default: pipes, no input).

        `poweroff()`, `power_loss()` and `close()` end it. Raises RuntimeError if the machine is off.
        """
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        argv = self._enter(command, env)
        process = Background(argv, text=True, errors="replace", start_new_session=True, **settings)
        self._background.append(process)
        return process

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        timeout: float = 60.0,
        input: str | None = None,  # noqa: A002 - as in subprocess.run
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command inside as root: a list of arguments, or a string for /bin/sh.

        `env` adds to a small fixed environment. Raises AssertionError with the command, its status and output
        if it fails (unless `check=False`) or takes longer than `timeout` seconds; RuntimeError if the machine
        is off.
        """
        process = self.popen(command, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired as error:
            out, err = (b.decode("utf-8", "replace") if b else "" for b in (error.stdout, error.stderr))
            raise AssertionError(f"{command!r}: not done after {timeout} s\n{out}{err}") from None
        finally:
            process.end()
            self._background.remove(process)
        if check and process.returncode:
            raise AssertionError(f"{command!r}: status {process.returncode}\n{out}{err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def docker(self, *arguments: str, **options: Any) -> Done:
        """Run `docker` inside; options as for `run()`."""
        return self.run(["docker", *arguments], **options)

    def podman(self, *arguments: str, **options: Any) -> Done:
        """Run `podman` inside; options as for `run()`."""
        return self.run(["podman", *arguments], **options)

    def wait_for(self, what: Command | Callable[[], T], timeout: float = 10.0, interval: float = 0.05) -> T | Done:
        """Wait until a command succeeds or a function returns something true; returns that (or its result).

        Raises AssertionError after `timeout` seconds, with what the last attempt gave.
        """
        deadline = time.monotonic() + timeout
        while True:
            result = what() if callable(what) else self.run(what, check=False, timeout=timeout)
            if result.returncode == 0 if isinstance(result, subprocess.CompletedProcess) else result:
                return result
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what!r}; last: {result!r}")
            time.sleep(interval)

    def path(self, name: str) -> Path:
        """The host's path of a file inside, booted or not; links are followed as the machine would."""
        top = Path(f"/proc/{self.leader}/root") if self.booted else self.root
        ahead = [*reversed(PurePosixPath(name).parts)]
        done: list[str] = []
        for _ in range(200):
            if not ahead:
                break
            part = ahead.pop()
            if part in ("/", ".."):
                done = [] if part == "/" else done[:-1]
                continue
            done.append(part)
            with contextlib.suppress(OSError):
                ahead += reversed(PurePosixPath(top.joinpath(*done).readlink()).parts)
                done.pop()
        return top.joinpath(*done)

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file inside, owned by root, and its missing directories; booted or not."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """The text of a file inside, booted or not. Raises OSError."""
        return self.path(path).read_text("utf-8", "replace")

    def put(self, source: str | Path, path: str) -> None:
        """Copy a file or a directory of the host to this path inside, booted or not. Raises OSError."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
