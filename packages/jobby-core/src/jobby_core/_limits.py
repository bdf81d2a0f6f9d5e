"""Owns the table of exhausted limits: errno to the limit's name and the way out."""

import errno

from jobby_core.errors import LimitError

# open(2), fork(2), pidfd_open(2), write(2): what each errno means there.
_LIMITS = {
    errno.EMFILE: (
        "RLIMIT_NOFILE",
        "this process has no file descriptor left (RLIMIT_NOFILE)",
        "close some, or raise the limit with ulimit -n",
    ),
    errno.ENFILE: (
        "fs.file-max",
        "the system has no file descriptor left (fs.file-max)",
        "close some, or raise fs.file-max with sysctl",
    ),
    errno.EAGAIN: (
        "RLIMIT_NPROC",
        "no further process may be made (RLIMIT_NPROC, pids.max or kernel.pid_max)",
        "end some processes, or raise the limit with ulimit -u",
    ),
    errno.ENOMEM: ("memory", "out of memory", "free memory, then try again"),
    errno.ENOSPC: ("disk space", "disk full", "free space, or choose another folder"),
    errno.EDQUOT: ("disk quota", "disk quota exhausted", "free space, or choose another folder"),
}


def limit_error(error: OSError, action: str, path: str | None = None) -> LimitError | None:
    """Returns the `LimitError` that `error` stands for, or None if it is no exhausted limit."""
    known = _LIMITS.get(error.errno or 0)
    if known is None:
        return None
    limit, cause, way_out = known
    return LimitError(action, cause, way_out, path=path, limit=limit)
