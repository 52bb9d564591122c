"""Background processes that several processes share and that stop when the last one lets go.

Who needs the process holds a shared lock on a file; the kernel drops it however the holder ends, so
nothing is counted and nothing goes stale (measured with peers that count process ids: one kill -9 of
a holder leaves the server running for good). The background process asks for the same lock for
itself alone and stops once it gets it. A second lock, which it keeps for as long as it lives, says
that it lives: a process id in a file would not, since ids are given again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.deadlines import Deadline
from runbook_lib.errors import ServiceNotStarted

LINGER_SECONDS = 1.0
LOOK_SECONDS = 0.1
SHORT_LOOK_SECONDS = 0.01
LOG_LIMIT_BYTES = 1_000_000
LOG_LINES_SHOWN = 12
# A service that died this often, each time sooner than it settles, is given up.
DEATHS_IN_A_ROW = 50  # somebody who kills it on purpose does so fewer times
SETTLED_AFTER_SECONDS = 0.5  # after it was ready; a service that cannot run dies sooner

_PACKAGE_PARENT = Path(__file__).resolve().parent.parent

State = dict[str, Any]


@dataclass(frozen=True)
class ProcessStatus:
    """Whether the process runs and is ready, whether anybody holds it, and whether it is kept."""

    running: bool
    ready: bool
    held: bool
    kept: bool
    state: State


def dying_with_parent(command: Sequence[str], signal_name: str = "TERM") -> list[str]:
    """The command, sent this signal by the kernel when the thread that started it, or its process, is gone.

    Linux only; elsewhere a program outlives a killed parent, and ends when it is told to.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", signal_name, "--", *command] if setpriv else list(command)


class Hold:
    """Keeps the shared process up until `release`, or until this process ends in whatever way."""

    def __init__(self, process: SharedProcess, descriptor: int, state: State) -> None:
        self._process = process
        self.state = state
        # Closing, never unlocking: after a fork the lock belongs to both, and the last one drops it.
        self._drop = weakref.finalize(self, os.close, descriptor)

    def ensure(self, timeout_seconds: float = 30) -> State:
        """Starts the process again if it was killed. Raises `ServiceNotStarted`."""
        if self._drop.alive:
            self.state = self._process._running_state(Deadline.after(timeout_seconds))
        return self.state

    def release(self) -> None:
        """Lets go; a second call does nothing."""
        self._drop()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class SharedProcess:
    """One background process (`python -m module directory …`) for everybody who names `directory`.

    The module calls `serve`. `arguments` count only for whoever starts the process.
    """

    def __init__(self, directory: Path, module: str, arguments: Sequence[str] = ()) -> None:
        self.directory = directory
        self._module = module
        self._arguments = tuple(arguments)

    def acquire(self, timeout_seconds: float = 30) -> Hold:
        """Starts the process if it does not run, and holds it.

        Raises `ServiceNotStarted` with the last lines of its log.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = Deadline.after(timeout_seconds)
        descriptor = _open_lock(self._holders)
        try:
            # A process that is about to stop keeps this lock until it has: then a new one starts.
            if not _lock(descriptor, fcntl.LOCK_SH, deadline):
                raise self._not_started(f"the one before did not stop within {timeout_seconds:g} s")
            os.utime(descriptor)
            return Hold(self, descriptor, self._running_state(deadline))
        except BaseException:
            os.close(descriptor)
            raise

    def keep(self, timeout_seconds: float = 30) -> State:
        """Starts the process if needed; it then stays without holders until `let_go` or a reboot."""
        with self.acquire(timeout_seconds) as hold:
            _write_atomically(self._keep_marker, {"boot_id": boot_id()})
            return hold.state

    def let_go(self) -> bool:
        """Ends what `keep` began; the process stops once nobody holds it. Returns whether it was kept."""
        was_kept = _kept(self._keep_marker)
        self._keep_marker.unlink(missing_ok=True)
        return was_kept

    def stop_unless_held(self, timeout_seconds: float = 10) -> bool:
        """Ends the process at once, without its lingering, if nobody holds it. Returns whether it is gone."""
        descriptor = _open_lock(self._holders)
        try:
            # Kept until the process is gone: whoever comes now waits, then starts a new one.
            # Somebody may only be looking whether it could be had, hence a little patience.
            if not _lock(descriptor, fcntl.LOCK_EX, Deadline.after(2)):
                return False
            process = _read(self._state).get("pid")
            if process is not None and self._lives():
                os.kill(process, signal.SIGTERM)
            return self.wait_until_stopped(timeout_seconds)
        finally:
            os.close(descriptor)

    def wait_until_stopped(self, timeout_seconds: float) -> bool:
        """Waits until the process has ended; False when it has not in this time."""
        deadline = Deadline.after(timeout_seconds)
        while self._lives():
            if deadline.passed():
                return False
            time.sleep(SHORT_LOOK_SECONDS)
        return True

    def status(self) -> ProcessStatus:
        """How things stand, without starting anything."""
        running = self._lives()
        state = _read(self._state) if running else {}
        return ProcessStatus(
            running=running,
            ready=bool(state.get("ready")),
            # The process that is about to stop has it for itself alone: then nobody holds it.
            held=not _free(self._holders, fcntl.LOCK_EX) and _free(self._holders, fcntl.LOCK_SH),
            kept=_kept(self._keep_marker),
            state=state,
        )

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.directory / "log.txt"

    @property
    def _holders(self) -> Path:
        return self.directory / "holders.lock"

    @property
    def _keep_marker(self) -> Path:
        return self.directory / "keep.json"

    @property
    def _state(self) -> Path:
        return self.directory / "state.json"

    def _lives(self) -> bool:
        # Shared, so that two who look at the same time do not take each other for the process.
        return not _free(self.directory / "alive.lock", fcntl.LOCK_SH)

    def _running_state(self, deadline: Deadline) -> State:
        # Starters take turns, so that the second one finds the process that the first one started.
        with self._turn_to_start(deadline):
            started: subprocess.Popen[bytes] | None = None
            begun_at = 0
            while True:
                if self._lives():
                    state = _read(self._state)
                    if state.get("ready"):
                        break
                elif started is None:
                    begun_at = self._prepare_log()
                    self._state.unlink(missing_ok=True)
                    started = self._start()
                elif started.poll() is not None:
                    raise self._not_started(f"ended with status {started.returncode}", begun_at)
                if deadline.passed():
                    raise self._not_started("is not ready in time", begun_at)
                time.sleep(SHORT_LOOK_SECONDS)
            if started is not None:
                # It may end before us: somebody has to take its status, or it stays as a zombie.
                threading.Thread(target=started.wait, name="reaper", daemon=True).start()
            return state

    @contextmanager
    def _turn_to_start(self, deadline: Deadline) -> Iterator[None]:
        descriptor = _open_lock(self.directory / "start.lock")
        try:
            if not _lock(descriptor, fcntl.LOCK_EX, deadline):
                raise self._not_started("another process is starting it and is not done in time")
            yield
        finally:
            os.close(descriptor)

    def _prepare_log(self) -> int:
        """Where in the log this start's lines begin; a log that grew large is set aside."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".1.txt"))
        return self.log.stat().st_size if self.log.exists() else 0

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # Whatever it inherited it would keep: pipes and locks of a caller that is long gone.
            return subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(self.directory), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self.directory,
                env=_environment(),
                close_fds=True,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    def _not_started(self, reason: str, begun_at: int = 0) -> ServiceNotStarted:
        lines: list[str] = []
        if self.log.exists():
            text = self.log.read_bytes()[begun_at:].decode("utf-8", "replace")
            lines = text.strip().splitlines()[-LOG_LINES_SHOWN:]
        told = "\n".join(["", "Its last lines:", *lines]) if lines else ""
        return ServiceNotStarted(f"{self._module} {reason}. Its log is {self.log}.{told}")


def serve(
    directory: Path,
    start: Callable[[], State],
    stop: Callable[[], None],
    alive: Callable[[], bool],
    linger_seconds: float = LINGER_SECONDS,
) -> int:
    """The background process's main loop; call it from the main thread. Returns its exit status.

    `start` brings the service up and returns its state (without secrets), `alive` says whether it is
    still there (if not, `start` is called again), `stop` ends it. Ends when nobody has held the
    process for `linger_seconds`, at SIGTERM, or when `directory` was removed.
    """
    os.umask(0o077)
    alive_lock = _open_lock(directory / "alive.lock")
    # Somebody may be looking at this lock just now, hence a little patience.
    if not _lock(alive_lock, fcntl.LOCK_EX, Deadline.after(5)):
        print("another process serves this directory", flush=True)
        return 0
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: asked_to_stop.set())
    holders = _open_lock(directory / "holders.lock")
    state_file = directory / "state.json"
    state_file.unlink(missing_ok=True)
    try:
        restarts = _Restarts(state_file, start)
        restarts.start()
        last_held = time.monotonic()
        while not asked_to_stop.wait(LOOK_SECONDS):
            if not alive():
                restarts.start_again()
            if _removed(directory / "holders.lock", holders):
                return 0
            if _in_use(directory, holders):
                last_held = time.monotonic()
            elif time.monotonic() - last_held >= linger_seconds and _lock(holders, fcntl.LOCK_EX):
                # Kept until the process is gone: whoever comes now waits, then starts a new one.
                return 0
        return 0
    finally:
        state_file.unlink(missing_ok=True)
        stop()


class _Restarts:
    """Starts the service, publishes its state, and gives up on one that dies again and again."""

    def __init__(self, state_file: Path, start: Callable[[], State]) -> None:
        self._state_file = state_file
        self._start = start
        self._started_at = 0.0
        self._deaths = 0

    def start(self) -> None:
        _write_atomically(self._state_file, {**self._start(), "ready": True, "pid": os.getpid()})
        self._started_at = time.monotonic()

    def start_again(self) -> None:
        settled = time.monotonic() - self._started_at >= SETTLED_AFTER_SECONDS
        self._deaths = 1 if settled else self._deaths + 1
        if self._deaths >= DEATHS_IN_A_ROW:
            raise ServiceNotStarted(f"The service died {self._deaths} times in a row.")
        print("the service is gone; starting it again", flush=True)
        self.start()


def _in_use(directory: Path, holders: int) -> bool:
    """Whether anybody holds the process, did so a moment ago, or wants it kept."""
    if _kept(directory / "keep.json"):
        return True
    if not _try_lock(holders, fcntl.LOCK_EX):
        return True
    fcntl.flock(holders, fcntl.LOCK_UN)
    # A short command may have come and gone between two looks; it left its time.
    return 0 <= time.time() - os.fstat(holders).st_mtime < 2 * LOOK_SECONDS


def _removed(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return True


def process_age_seconds() -> float:
    """For how long this process has been there; 0 where the system does not say."""
    try:
        # The name in parentheses may hold anything; the start, in ticks since boot, is the 22nd field.
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - begun)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def boot_id() -> str:
    """What is the same until the machine starts again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        question = ["sysctl", "-n", "kern.bootsessionuuid"]
        answer = subprocess.run(question, capture_output=True, text=True, check=False)
        return answer.stdout.strip() or "unknown"


def process_is_gone(pid: int, boot: str | None) -> bool:
    """Whether a process of this host has ended. One that was killed and that nobody has reaped is gone,
    though it still has its number; so is every one of before the machine started again."""
    import psutil

    if boot != boot_id():
        return True
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _kept(marker: Path) -> bool:
    return _read(marker).get("boot_id") == boot_id() if marker.exists() else False


def _environment() -> dict[str, str]:
    # The process outlives its caller and needs none of the caller's keys or addresses.
    from runbook_lib.settings import CALLER_PREFIXES

    kept = {name: text for name, text in os.environ.items() if not name.startswith(CALLER_PREFIXES)}
    paths = [str(_PACKAGE_PARENT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(descriptor: int, kind: int, deadline: Deadline | None = None) -> bool:
    while not _try_lock(descriptor, kind):
        if deadline is None or deadline.passed():
            return False
        time.sleep(SHORT_LOOK_SECONDS)
    return True


def _free(path: Path, kind: int) -> bool:
    """Whether this lock could be had."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return _try_lock(descriptor, kind)
    finally:
        os.close(descriptor)


def _read(path: Path) -> State:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_atomically(path: Path, state: State) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(json.dumps(state), "utf-8")
    new.replace(path)
