"""Owns a job's process group without a launcher: starts it, signals all of it, reaps its leader.

For platforms that have no launcher. What is lost without one: the job is killed when this
program exits (atexit), it runs on and nobody can reach it when this process ends otherwise, its
outcome survives neither, and a process that leaves the group (setsid(2)) is not killed.
"""

import atexit
import os
import signal
import subprocess
import threading
from contextlib import suppress

from jobby_core._diagnosis import start_error
from jobby_core._stragglers import kill_group
from jobby_core.errors import StartError, StopError
from jobby_core.spec import JobArgs
from jobby_core.state import Ending, Exit

_live: set["DirectProcess"] = set()  # not reaped; each change is one step of the interpreter's


class DirectProcess:
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
        _live.add(self)

    @classmethod
    def start(cls, args: JobArgs, stdout_fd: int, stderr_fd: int) -> "DirectProcess":
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
            # copies the page tables of a large process, at up to 185 ms a start. The signals that
            # this thread blocks are blocked in the job, too: Popen has no option for that.
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
            try:
                return cls(child.pid, os.pidfd_open(child.pid))
            except ProcessLookupError:
                # It has run and ended, and somebody else in this program, who waits for every
                # child, was quicker. This descriptor is as readable as its pidfd would be.
                process = cls(child.pid, os.eventfd(1, os.EFD_CLOEXEC))
                process._reaped = True
                return process
        except OSError as error:
            with suppress(ChildProcessError, ProcessLookupError):  # as above
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                os.killpg(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
            raise start_error(args, error) from error

    def send_signal(self, signum: signal.Signals) -> None:
        """Sends `signum` to the whole group, unless its leader has ended already.

        Raises:
            StopError: the kernel does not allow it (kill(2), EPERM), or this is a
                forked child of the process that started it.
        """
        if os.getpid() != self._parent and not self._reaped:
            raise StopError.forked(f"process group {self.pid}")
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
                raise StopError.foreign(f"process group {self.pid}") from None
            self._stop_signals |= {signum}

    def abandon(self) -> None:
        """Kills and reaps a process that was just started and that nobody watches."""
        if self.kill_group():
            with suppress(ChildProcessError):  # somebody else in this program waited for it
                os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        _live.discard(self)
        os.close(self.pidfd)

    def kill_group(self) -> bool:
        """Kills the group, also of a leader that has ended; tells whether that is not reaped.

        In a forked child it does nothing: the job is the parent's.
        """
        if os.getpid() != self._parent:
            return False
        with self._lock, suppress(ChildProcessError, ProcessLookupError, PermissionError):
            self._peek()  # raises where somebody else waited: the id may be a stranger's
            os.killpg(self.pid, signal.SIGKILL)
            return True
        return False

    def _peek(self) -> os.waitid_result | None:
        """Looks whether the leader has ended, and leaves it a zombie (waitid(2), WNOWAIT).

        Raises:
            ChildProcessError: it is reaped already.
        """
        if self._reaped:
            raise ChildProcessError
        return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def reap(self) -> Ending | None:
        """Reaps the ended leader, and kills what it left behind in its group.

        Closes `pidfd`, so that there is a descriptor to look for the others with. Only the
        reaper calls this.

        Returns:
            how it ended; None if it has not.
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
        _live.discard(self)
        os.close(self.pidfd)
        return Ending(exit_, sent)

    def stragglers(self) -> list[int]:
        """Kills what is left of the group; returns a pidfd for each that may not be gone yet."""
        return kill_group(self.pid)

    def close(self) -> None:
        """Does nothing: all is given back already."""


def _exit(result: os.waitid_result) -> Exit:
    if result.si_code == os.CLD_EXITED:
        return Exit(result.si_status, None)
    return Exit(None, result.si_status)


@atexit.register
def _end_with_this_program() -> None:
    """Kills what would run on where nobody could reach it."""
    for process in tuple(_live):
        process.kill_group()
