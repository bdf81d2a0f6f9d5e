"""Owns `./tools/hatch run demo`: the whole of Jobby at work, in a few seconds.

Everything is real: certificates in a scratch folder, a server, the `jobby`
command over mutual TLS 1.3, and a job whose output is followed live by two
clients. What is shown is checked too; the exit code says whether it all went
as told. Nothing is left behind, also after ctrl-c.
"""

import hashlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from stage import DEADLINE_SECONDS, Stage, WentWrongError, expect, show

# It ends when it is told to, so that nothing below depends on how fast the machine is.
JOB = (
    'for n in 1 2 3 4 5 6; do echo "step $n of 7"; sleep 0.3; done; '
    'read word < gate; echo "step 7 of 7: $word"; echo "all done" >&2'
)
OUTPUT = b"".join(b"step %d of 7\n" % n for n in range(1, 7)) + b"step 7 of 7: go\n"
# sysexits.h, as `jobby --help` lists them.
NO_SUCH_JOB, REFUSED = 66, 77


def tell(stage: Stage) -> None:
    """The story."""
    say = _chapters()
    say("A certificate authority, a server and two users: alice and mallory.")
    stage.type("jobby", "certs", "init", "--client", "alice")
    stage.type("jobby", "certs", "client", "mallory")

    say("The server. It takes TLS 1.3 with a certificate, and nothing else.")
    server = stage.serve()

    say("Alice starts a job, and follows its output from two places while it runs.")
    stage.shell("mkfifo gate")
    job = stage.start("sh", "-c", JOB)
    first = stage.follow(job, "first client")
    expect(first.first_line.wait(DEADLINE_SECONDS), "the output arrives while the job runs")
    second = stage.follow(job, "second client")
    expect("RUNNING" in stage.type("jobby", "status", job), "the job is RUNNING")

    say("Mallory has a certificate of the same authority. To her there is no such job.")
    mallory = ("jobby", "--cert", "mallory.cert", "--key", "mallory.key")
    stage.type(*mallory, "output", job, code=NO_SUCH_JOB)
    stage.type(*mallory, "stop", job, code=NO_SUCH_JOB)

    say("Without a certificate, or with one of another authority, nobody gets in.")
    stage.knock_without_certificate()
    stage.type("jobby", "certs", "init", "--client", "alice", "elsewhere")
    foreign = ("--cert", "elsewhere/client.cert", "--key", "elsewhere/client.key")
    stage.type("jobby", *foreign, "status", job, code=REFUSED)

    say("The server is killed, and started again. The job runs on, and nobody misses a byte.")
    show("$ kill -9 %1")
    server.kill()
    server.wait(DEADLINE_SECONDS)
    server = stage.serve()
    expect("RUNNING" in stage.type("jobby", "status", job), "the job is RUNNING still")

    say("Both clients read the same bytes, to the end.")
    stage.shell("echo go > gate")
    digests = {first.finish(), second.finish()}
    expect(digests == {hashlib.sha256(OUTPUT).hexdigest()}, "both outputs are whole")
    show(f"# sha256 of both: {digests.pop()}")
    errors = stage.type("jobby", "output", "--type", "stderr", job)
    expect(errors == "all done\n", "the other output is whole, too")
    status = stage.type("jobby", "status", job)
    expect(status == "Status: COMPLETED, ExitCode: 0\n", "the job is COMPLETED")

    say("A job that would run for an hour is stopped.")
    long = stage.start("sleep", "3600")
    stage.type("jobby", "stop", long)
    expect(stage.type("jobby", "status", long) == "Status: STOPPED\n", "the job is STOPPED")

    say("The server ends, and nothing is left.")
    show("$ kill %1")
    server.send_signal(signal.SIGTERM)
    expect(server.wait(DEADLINE_SECONDS) == 0, "the server ends orderly")
    expect(not stage.leftovers(), "no process is left")


def _chapters() -> Callable[[str], None]:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    started = time.monotonic()

    def say(text: str) -> None:
        show(f"\n{bold}# {time.monotonic() - started:.1f} s: {text}{plain}")

    return say


def main() -> int:
    """Tell the story; exit code 1 when something did not go as told, 130 after ctrl-c."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # clean up as after ctrl-c
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        with ExitStack() as cleanup:
            scratch = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="jobby-demo-"))
            show(f"$ cd {scratch}")
            tell(Stage(Path(scratch), cleanup))
    except KeyboardInterrupt:
        print("\nstopped; the scratch folder and the server are gone", file=sys.stderr)
        return 130
    except subprocess.TimeoutExpired as error:
        told = f"`{shlex.join(error.cmd)}` ends within {error.timeout:.0f} s"
    except (WentWrongError, TimeoutError) as error:
        told = str(error)
    else:
        show("\nThat was all of it. README.md says how to use each part.")
        return 0
    print(f"\nThis did not go as told. Expected: {told}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
