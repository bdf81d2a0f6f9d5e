"""Owns the server's process: sets it up, serves, drains, exits."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# environment before anything imports grpc
from jobby_server import config, environment, log, memory
from jobby_server.address import Address
from jobby_server.config import ServerConfig
from jobby_server.errors import EXIT_SOFTWARE, ConfigError, StartupError
from jobby_server.limits import STOP_SECONDS
from jobby_server.tasks import retrieve

_log = logging.getLogger(__name__)

# Starting a job takes one for milliseconds, unless a file system hangs.
_THREADS = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM, SIGINT or SIGHUP; returns the exit code.

    Args:
        arguments: the command line without the program's name; None is the process's own.
    """
    try:
        settings = config.load(sys.argv[1:] if arguments is None else arguments, os.environ)
        log.set_up(settings.log_level)
        environment.quiet_grpc(debug=settings.log_level == "debug")
        memory.set_up()
        # An inherited SIG_IGN would have the kernel reap the jobs and lose their outcome (wait(2)).
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return asyncio.run(_run(settings))
    except StartupError as error:
        sys.stderr.write(f"jobby-server: {log.printable(str(error))}\n")
        return error.exit_code


async def _run(settings: ServerConfig) -> int:
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobby")
    loop.set_default_executor(threads)
    # Before grpc is loaded, which takes long enough to be interrupted.
    quit_, hurry = _signals(loop)
    # Late: `--help`, `--version` and a usage error don't need grpc.
    from jobby_server import certificates, limits, tls
    from jobby_server.server import JobbyServer
    from jobby_server.state_dir import StateDir

    limits.check_descriptors()
    material = certificates.read(settings.ca, settings.cert, settings.key)
    for warning in material.warnings:
        _log.warning("%s", warning)
    if material.sample:
        _check_samples(settings)
    await tls.prove_tls13_only(material)
    await asyncio.to_thread(settings.listen.try_out)
    if settings.state_dir is not None:
        state, what = StateDir.named(settings.state_dir), "jobs are kept"
    else:
        state = StateDir.temporary(settings.output_dir)
        what = "output is kept" if settings.output_dir else "output is held"
    try:
        server = JobbyServer(
            material, state, keep=settings.keep, stop_jobs=settings.stop_jobs_on_exit
        )
        starting = asyncio.create_task(server.start(settings.listen))
        early = await _comes_first(quit_, starting)
        if early and settings.stop_jobs_on_exit:
            _log.info("asked to end; the jobs of the server before are taken up first, to be ended")
            early = await _comes_first(hurry, starting)
        if early:
            ended = await _give_up(starting)
        else:
            bound = starting.result()
            _log.info("%s in %s", what, state.path)
            if material.sample:
                _say_samples(bound)
            _log.info("listening on %s", bound)
            await quit_.wait()
            _log.info("shutting down; a second signal hurries")
            ended = await server.drain(hurry)
    finally:
        state.close()
    if not (ended and _have_ended(threads)):
        _exit_hard(len(server.store))
    if running := server.running_jobs():
        _log.info("%d jobs run on", running)
    _log.info("ended")
    return 0


async def _comes_first(event: asyncio.Event, task: "asyncio.Task[Any]") -> bool:
    """Whether an event is set before a task has ended."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return not task.done()


async def _give_up(starting: "asyncio.Task[Any]") -> bool:
    """Ends a start that was under way: taking up the jobs of the server before may take long.

    Returns:
        whether it has ended; False if something hangs in the kernel.
    """
    _log.info("asked to end before it serves")
    starting.add_done_callback(retrieve)
    starting.cancel()
    _, hanging = await asyncio.wait([starting], timeout=STOP_SECONDS)
    return not hanging


def _have_ended(threads: ThreadPoolExecutor) -> bool:
    """Whether none of them reads or starts something any more; asyncio.run would wait for ever."""
    ending = threading.Thread(target=threads.shutdown, daemon=True)
    ending.start()
    ending.join(STOP_SECONDS)
    return not ending.is_alive()


def _signals(loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Event, asyncio.Event]:
    """Returns what the first and the second signal set."""
    quit_, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if quit_.is_set() else quit_).set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # nohup(1) ignores SIGHUP, and means it. Otherwise a closed terminal ends the server
        # as orderly as the other two do: its jobs would survive it.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, on_signal)
    return quit_, hurry


def _check_samples(settings: ServerConfig) -> None:
    if not settings.expose_samples and not settings.listen.is_loopback():
        raise ConfigError(
            f"cannot listen on {settings.listen} with the sample certificates: everybody has "
            "their private keys, so everybody could run commands here; make your own with "
            "`jobby certs init`, listen on 127.0.0.1, or, if you really mean it, add "
            "--insecure-expose-sample-certificates"
        )


def _say_samples(bound: Address) -> None:
    _log.warning(
        "THE SAMPLE CERTIFICATES ARE IN USE: everybody has their private keys, so whoever reaches "
        "%s can run commands as this user; make your own with `jobby certs init`",
        bound,
    )


def _exit_hard(jobs: int) -> None:
    """Leaves without waiting for what hangs: a thread in the kernel, or a job that cannot die."""
    _log.error(
        "leaving, though something hangs: a disk, or a job of %d that cannot be killed; "
        "look for processes in state D with ps",
        jobs,
    )
    logging.shutdown()
    os._exit(EXIT_SOFTWARE)
