"""Child processes that never outlive us unseen: own session, log file, pid file, bounded end.

A worker puts each flow run into a session of its own, so that a process group does not name all that a child started.
Every child therefore carries a mark in its environment, which its own children inherit.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from domain.errors import ServiceUnavailable

logger = logging.getLogger(__name__)

GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.1
_LOG_LINES = 15
_PROC = Path("/proc")
MARK = "REVET_STARTED_AS"


@dataclass(frozen=True)
class Child:
    """A process that we started as leader of its own session."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def last_lines(self) -> str:
        """Return the end of the log, for error messages."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])
        return ""


def birth_mark(pid: int) -> str:
    """Return when process `pid` started, as the system tells it; empty when there is none.

    A pid that was given to another process since has another mark.
    """
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        with suppress(OSError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            return "" if fields[0] == "Z" else fields[19]
        return ""
    if Path("/proc/self/stat").exists():
        return ""
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def marked(mark: str) -> list[int]:
    """Return the living processes that carry `mark`, or descend from one that does."""
    wanted = f"{MARK}={mark}"
    if not (_PROC / "self" / "environ").exists():
        asked = subprocess.run(["ps", "-axwwE", "-o", "pid=,command="], capture_output=True, text=True, check=False)
        lines = (line.split(None, 1) for line in asked.stdout.splitlines())
        return [int(pid) for pid, command in (line for line in lines if len(line) > 1) if wanted in command]
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted.encode() in (entry / "environ").read_bytes().split(b"\0") and birth_mark(int(entry.name)):
                    found.append(int(entry.name))
    return found


def end_marked(mark: str, reap: Callable[[], object], grace: float = GRACE_SECONDS) -> None:
    """End every process that carries `mark`: ask once, wait at most `grace` seconds, then kill until none is left."""
    asked: set[int] = set()
    begin = time.monotonic()
    while (age := time.monotonic() - begin) < 2 * grace:
        reap()
        alive = marked(mark)
        if not alive:
            return
        for pid in alive:
            if age < grace and pid in asked:
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM if age < grace else signal.SIGKILL)
            asked.add(pid)
        time.sleep(_POLL_SECONDS)
    logger.warning("processes %s are still alive after SIGKILL", alive)


@dataclass
class Processes:
    """The children of one workspace, ended in reverse order of their start.

    Attributes:
        run_dir: folder of the pid files, so that a later start finds what a killed one left behind.
        logs_dir: folder of the log files.
    """

    run_dir: Path
    logs_dir: Path
    children: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str], folder: Path | None = None) -> Child:
        """Start `command` in its own session with its output in `<logs_dir>/<name>.log`."""
        self.end_leftover(name)
        self.logs_dir.mkdir(parents=True, exist_ok=True)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        log = self.logs_dir / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environ, MARK: self.mark(name)},
                cwd=folder or self.run_dir,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.children.append(child)
        owner = {"owner": os.getpid(), "owner_birth": birth_mark(os.getpid())}
        note = {"pid": child.pid, "command": list(command), **owner}
        self._pid_file(name).write_text(json.dumps(note), encoding="utf-8")
        return child

    def wait(self, child: Child, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready()` is true.

        Raises:
            ServiceUnavailable: the child ended, or was not ready in time; the message holds the end of its log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if child.process.poll() is not None:
                raise ServiceUnavailable(
                    f"{child.name} ended with code {child.process.returncode} instead of starting; "
                    f"its log is {child.log}:\n{child.last_lines()}"
                )
            if ready():
                return
            time.sleep(_POLL_SECONDS)
        raise ServiceUnavailable(
            f"{child.name} did not answer within {seconds:.0f} s; its log is {child.log}:\n{child.last_lines()}"
        )

    def stop(self) -> None:
        """End all children, last started first; a second call does nothing."""
        while self.children:
            child = self.children[-1]
            end_marked(self.mark(child.name), child.process.poll)
            with suppress(subprocess.TimeoutExpired):  # its memory, and the mark in it, goes before the process does
                child.process.wait(GRACE_SECONDS)
            self._pid_file(child.name).unlink(missing_ok=True)
            self.children.pop()

    def end_leftover(self, name: str) -> bool:
        """End what a killed start left behind under `name`; return whether there was anything.

        Raises:
            ServiceUnavailable: whoever started it is still there and needs it.
        """
        note = read_note(self._pid_file(name))
        left = marked(self.mark(name))
        if note is not None and left and note.is_owned:
            raise ServiceUnavailable(
                f"{name} already runs in this workspace (pid {note.pid}, started by pid {note.owner}); "
                "end that first, or choose another home with --home"
            )
        if left:
            end_marked(self.mark(name), lambda: None)
        self._pid_file(name).unlink(missing_ok=True)
        return bool(left)

    def keep(self) -> None:
        """Let go of the children: they stay alive after us, and their pid files tell a later start whom to end."""
        self.children.clear()

    def mark(self, name: str) -> str:
        """Return the value of `MARK` in the environment of child `name` and of all that it starts."""
        return f"{self.run_dir.resolve()}/{name}"

    def _pid_file(self, name: str) -> Path:
        return self.run_dir / f"{name}.pid.json"


@dataclass(frozen=True)
class Note:
    """What a pid file says about a process and the one that started it."""

    pid: int
    owner: int
    owner_birth: str

    @property
    def is_owned(self) -> bool:
        """Whether another living process looks after it."""
        return self.owner != os.getpid() and bool(self.owner_birth) and birth_mark(self.owner) == self.owner_birth


def read_note(path: Path) -> Note | None:
    """Return what a pid file says, or None when there is none or it is unreadable."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(path.read_text(encoding="utf-8"))
        return Note(int(note["pid"]), int(note["owner"]), str(note["owner_birth"]))
    return None


@contextmanager
def ending_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the end of the block, also after SIGINT, SIGTERM and SIGHUP; later signals do not disturb it."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    watched = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, leave) for number in watched}
    try:
        yield
    finally:
        for number in watched:
            signal.signal(number, signal.SIG_IGN)
        try:
            stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def python_module(*arguments: str) -> list[str]:
    """Return the command line that runs a module under this interpreter."""
    return [sys.executable, "-m", *arguments]
