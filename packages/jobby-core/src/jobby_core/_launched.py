"""Owns a launcher that runs: its signals, its end, and what it has told by then."""

import os
import signal
import threading
from contextlib import suppress
from typing import Final

from jobby_core import _cgroup, _outcome, _pipe
from jobby_core._pidfd import has_ended, wait_for
from jobby_core._record import Record
from jobby_core._stragglers import kill_marked
from jobby_core.errors import JobbyError, StopError
from jobby_core.state import LOST, Ending

# As in launcher.c, where SIGTERM and SIGKILL would not do: they are for the job.
SIGNALS: Final = {signal.SIGTERM: 40, signal.SIGKILL: 41}


class LaunchedProcess:
    """A job's main process, behind its launcher.

    Attributes:
        pid: the main process's id; 0 if that is not known.
        pidfd: becomes readable when the launcher has ended, which it does last.
    """

    def __init__(
        self,
        record: Record,
        pid: int,
        pidfd: int,
        *,
        launcher: int,
        report: int | None = None,
        outcome: int | None = None,
    ) -> None:
        """Wraps a launcher that runs.

        Args:
            record: of its job.
            pid: the main process's id.
            pidfd: the launcher's.
            launcher: the launcher's id.
            report: its end of `_pipe`; none if it is not a child of this process.
            outcome: then what it writes the outcome to, held open; none if that was taken away.
        """
        self.pid = pid
        self.pidfd = pidfd
        self._record = record
        self._launcher = launcher
        self._report = report
        self._outcome = outcome
        self._parent = os.getpid()
        self._lost = False  # the reaper's thread alone
        self._lock = threading.Lock()
        self._closed = False  # guarded by _lock

    def send_signal(self, signum: signal.Signals) -> None:
        """Has the launcher send SIGTERM or SIGKILL to the job, unless that has ended.

        Raises:
            StopError: the kernel does not allow it (kill(2), EPERM), or this is a
                forked child of the process that started it.
        """
        if os.getpid() != self._parent and not self._closed:
            raise StopError.forked(f"the job of process {self.pid}")
        with self._lock:  # over calls that don't block: the descriptor must not be closed
            if self._closed or has_ended(self.pidfd):
                return
            try:
                if self.pid:
                    os.kill(self.pid, 0)  # the launcher may do no more than this process
                signal.pidfd_send_signal(self.pidfd, SIGNALS[signum])
                # A job may have stopped its launcher (kill -STOP $PPID), which takes nothing then.
                signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)
            except ProcessLookupError:
                return  # it ends just now
            except PermissionError:
                raise StopError.foreign(f"the job of process {self.pid}") from None

    def abandon(self) -> None:
        """Kills and reaps a job that was just started and that nobody watches."""
        self.send_signal(signal.SIGKILL)
        wait_for(self.pidfd)
        self.close()

    def release(self) -> None:
        """Frees what is held for a job here; one that runs runs on."""
        with self._lock:
            if self._closed:
                return  # by the reaper, which had it already when a start was interrupted
            self._closed = True
        os.close(self.pidfd)
        self._close_told()

    def reap(self) -> Ending | None:
        """Returns how the job ended; None if the launcher has not, or is traced. For the reaper."""
        if not has_ended(self.pidfd):
            return None
        with suppress(OSError):  # as in `close`, where nobody may wait for long
            if os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
        ending = self._told()
        if ending is None and self._record.args.directory is not None:
            with suppress(JobbyError):  # it stays on the disk for whoever comes later
                ending = _outcome.read(self._record.directory)
        self._lost = ending is None
        if self._lost and self._record.cgroup is not None:
            _cgroup.kill(self._record.cgroup)
        return ending or LOST

    def stragglers(self) -> list[int]:
        """Kills what a lost job has left; returns pidfds. A launcher that ended leaves nothing."""
        if not self._lost:
            return []
        return kill_marked(self._record.mark, self._session())

    def close(self) -> None:
        """Reaps the launcher, and frees all that was held for it."""
        with suppress(OSError):  # another process's child, or no pidfd (see _open_pidfd)
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self.release()
        if not self._lost:
            return
        if self._record.cgroup is not None:
            _cgroup.remove(self._record.cgroup)
        if self._record.args.directory is not None:
            _outcome.put_lost(self._record.directory)

    def _session(self) -> int | None:
        """Returns the launcher's session; None if its id may be a stranger's by now."""
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except PermissionError:
            pass  # a zombie, too
        except OSError:
            # It is reaped, by another process if that started it. The kernel gives its id to
            # nobody while the session has a member (struct pid). If it had none, a stranger may
            # have it, and a stranger's session has its leader, seen here. Not seen is one whose
            # leader has ended, too: for that the kernel would have had to go through all ids,
            # 32,000 or more, in the moment since the pidfd told of the launcher's end.
            if os.path.exists(f"/proc/{self._launcher}"):
                return None
        return self._launcher

    def _told(self) -> Ending | None:
        """Returns how the job ended, by what is open already, and closes that.

        There may be no descriptor left: what a lost job has left is then found by this one.
        """
        ending = None
        with suppress(OSError, ValueError):
            if self._report is not None:
                # The launcher has ended, and with it as a rule the only writer. A child that was
                # forked at the wrong moment may hold that end, too, and wrote nothing.
                os.set_blocking(self._report, False)
                ending = _outcome.parse(os.read(self._report, 4096))
            elif self._outcome is not None:
                ending = _outcome.parse(_outcome.read_held(self._outcome))
        self._close_told()
        return ending

    def _close_told(self) -> None:
        if self._report is not None:
            _pipe.close(self._report)
        if self._outcome is not None:
            os.close(self._outcome)
        self._report = self._outcome = None
