"""Owns one job's process group: starts it, signals all of it, reaps its leader."""

import os
import signal
import subprocess
import threading
from contextlib import suppress

from jobby_core._diagnosis import start_error
from jobby_core.errors import StartError, StopError
from jobby_core.spec import JobArgs
from jobby_core.state import Exit


class Process:
    """A child process that leads its own session and process group.

    Attributes:
        pid: the leader's process id, which is also the group's and session's id.
        pidfd: becomes readable when the leader has ended (pidfd_open(2)).
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._parent = os.getpid()
        # Held over kill(2) and waitid(2) with WNOHANG, which do not block: a group id is
        # only safe to signal until its leader is reaped, after which it may be given anew.
        self._lock = threading.Lock()
        self._reaped = False  # guarded by _lock
        self._stop_signals: frozenset[int] = frozenset()  # guarded by _lock

    @classmethod
    def start(cls, args: JobArgs, stdout_fd: int, stderr_fd: int) -> "Process":
        """Starts the command; when this returns, it was executed.

        Raises:
            StartError: the command cannot be started; the kind says why.
            LimitError: no process, descriptor or memory is left for it.
        """
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # The kernel would reap the job itself and its exit code would be lost (wait(2)).
            raise StartError(
                f"start {args.command!r}",
                "this process ignores SIGCHLD, so exit codes are lost",
                "restore it with signal.signal(SIGCHLD, SIG_DFL)",
            )
        try:
            # Only these options: whatever makes Popen fork for real (preexec_fn, user, …)
            # copies the page tables of a large process, at up to 185 ms a start.
            child = subprocess.Popen(
                [args.command, *args.args],
                stdin=subprocess.DEVNULL,
                stdout=stdout_fd,
                stderr=stderr_fd,
                cwd=args.cwd,
                env=args.env,
                start_new_session=True,
            )
        except OSError as error:
            raise start_error(args, error) from error
        # Popen's own bookkeeping would reap the process from any later Popen call in this
        # program once this object is gone; the reaper is the only one that may.
        child.returncode = 0
        try:
            pidfd = os.pidfd_open(child.pid)
        except OSError as error:
            os.killpg(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise start_error(args, error) from error
        return cls(child.pid, pidfd)

    def send_signal(self, signum: int) -> None:
        """Sends `signum` to the whole group, unless its leader has ended already.

        Raises:
            StopError: the kernel does not allow it (kill(2), EPERM), or this is a
                forked child of the process that started it.
        """
        if os.getpid() != self._parent and not self._reaped:
            raise StopError(
                f"signal process group {self.pid}",
                "it belongs to the process that this one was forked from",
                "stop it there",
            )
        with self._lock:
            if self._reaped:
                return
            try:
                if self._peek() is not None:
                    return
                # The leader first: killing only others of its group would end nothing.
                signal.pidfd_send_signal(self.pidfd, 0)
                os.killpg(self.pid, signum)
            except (ChildProcessError, ProcessLookupError):
                return  # somebody else in this program waited for it; the reaper will notice
            except PermissionError:
                raise StopError(
                    f"signal process group {self.pid}",
                    "it runs under another user",
                    "stop it as that user or as root",
                ) from None
            self._stop_signals |= {signum}

    def abandon(self) -> None:
        """Kills and reaps a process that was just started and that nobody watches."""
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)

    def _peek(self) -> os.waitid_result | None:
        """Looks whether the leader has ended, and leaves it a zombie (waitid(2), WNOWAIT)."""
        return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def reap(self) -> tuple[Exit, frozenset[int], list[int]] | None:
        """Reaps the ended leader and kills what it left behind in its group.

        Closes `pidfd`. Only the reaper calls this.

        Returns:
            None if the leader has not ended. Otherwise how it ended, which
            signals `send_signal` sent it while alive, and a pidfd for each process
            that was left behind: killed, but perhaps not gone yet. `bury` closes these.
        """
        with self._lock:
            exit_ = Exit(None, None)
            with suppress(ChildProcessError):  # somebody else in this program waited for it
                result = self._peek()
                if result is None:
                    return None
                exit_ = _exit(result)
                # While the zombie holds the group id, it cannot be anybody else's.
                with suppress(PermissionError, ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            self._reaped = True
            sent = self._stop_signals
        os.close(self.pidfd)
        return exit_, sent, _left_behind(self.pid)


def _exit(result: os.waitid_result) -> Exit:
    if result.si_code == os.CLD_EXITED:
        return Exit(result.si_status, None)
    return Exit(None, result.si_status)


def bury(pidfds: list[int]) -> None:
    """Closes the pidfds of processes that are gone.

    Reaps those that became this process's children when their parent ended,
    as they do where it is a container's init or a subreaper (prctl(2)).
    """
    for pidfd in pidfds:
        with suppress(ChildProcessError):  # as a rule they are init's
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)


def _left_behind(group: int) -> list[int]:
    """Kills the processes in the group whose leader was just reaped; returns a pidfd for each.

    They were killed before, unless somebody else reaped the leader.
    """
    try:
        os.killpg(group, 0)
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        # By far the most common: nobody is left. Or nobody whom we may signal; or no descriptor
        # to look with.
        return []
    if str(group) in names:
        return []  # a stranger got the id anew, and the group is the stranger's
    pidfds = (_kill(int(name), group) for name in names)
    return [pidfd for pidfd in pidfds if pidfd is not None]


def _kill(pid: int, group: int) -> int | None:
    """Kills a process if it is in the group; returns its pidfd."""
    if not _is_member(pid, group):
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None  # gone meanwhile; or no descriptor left to wait with
    try:
        # Asked again: the pidfd may be that of a stranger who got the id in between.
        if _is_member(pid, group):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return pidfd
    except (ProcessLookupError, PermissionError):
        pass  # gone meanwhile; or under another user, and not ours to end or to wait for
    os.close(pidfd)
    return None


def _is_member(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except OSError:
        return False  # gone meanwhile
