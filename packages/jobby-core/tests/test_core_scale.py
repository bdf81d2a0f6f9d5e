"""Promises about what many jobs and readers cost, each in a process of its own."""

from pathlib import Path

from core_support import run_job_script


def test_a_thousand_jobs_need_one_inotify_instance_and_no_thread_each(
    own_limits: list[str], tmp_path: Path
) -> None:
    """All run and are followed at once, though the user may have but one inotify instance."""
    script = """
import asyncio, resource
JOBS = 1000
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
with open("/proc/sys/user/max_inotify_instances", "w") as file:
    file.write("1")
os.mkfifo(f"{folder}/gate")
gate = os.open(f"{folder}/gate", os.O_RDWR)
names = iter(range(JOBS))
jobs = [shell(f"read _ < {folder}/gate; echo {number}") for number in range(JOBS)]

async def follow(job):
    async with job.follow(Stream.STDOUT) as follower:
        return b"".join([chunk async for chunk in follower])

def waiting():
    from jobby_core import _inotify
    notifier = _inotify.shared._notifier
    return 0 if notifier is None else len(notifier._hubs)

async def main():
    follows = [asyncio.create_task(follow(job)) for job in jobs]
    async with asyncio.timeout(60):
        while waiting() < JOBS:
            await asyncio.sleep(0.01)  # and leave the rest to the threads that open the files
        instances = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                     if os.path.islink(f"/proc/self/fd/{fd}")].count("anon_inode:inotify")
        # The loop's, the library's own, and the pool that opens files.
        pool = min(32, os.cpu_count() + 4)
        print(instances, len(os.listdir("/proc/self/task")) <= 2 + pool)
        os.write(gate, b"\\n" * JOBS)
        outputs = await asyncio.gather(*follows)
    assert outputs == [b"%d\\n" % number for number in range(JOBS)]

asyncio.run(main())
assert all(job.wait(30).exit_code == 0 for job in jobs)
"""
    assert run_job_script(script, tmp_path, before=own_limits) == "1 True\n"


def test_idle_followers_cost_no_cpu(tmp_path: Path) -> None:
    """While a job is silent nobody looks at the clock or the file: no thread runs even once, in
    three seconds in which anything that looks now and then would.
    """
    script = """
import asyncio
from jobby_core import _inotify
THREADS, TASKS = 20, 1000
job = shell("exec sleep 1000")
readers = [job.stdout() for _ in range(THREADS)]
threads = [threading.Thread(target=reader.read) for reader in readers]

async def follow():
    async with job.follow(Stream.STDERR) as follower:
        async for _ in follower:
            pass

async def follow_all():
    await asyncio.gather(*(follow() for _ in range(TASKS)))

threads.append(threading.Thread(target=asyncio.run, args=(follow_all(),)))
for thread in threads:
    thread.start()

def waiting():
    notifier = _inotify.shared._notifier
    if notifier is None:
        return 0
    with notifier._lock:
        return sum(len(hub.waiters) for hub in notifier._hubs._by_key.values())

def turns():
    # proc_pid_status(5): how often each thread was put onto a CPU.
    found = {}
    for name in os.listdir("/proc/self/task"):
        if int(name) != os.getpid():
            with open(f"/proc/self/task/{name}/status") as file:
                found[name] = sum(int(l.split()[1]) for l in file if "ctxt_switches" in l)
    return found

def pause(seconds):
    threading.Event().wait(seconds)

end = time.monotonic() + 30
try:
    while waiting() != THREADS + TASKS:
        assert time.monotonic() < end, waiting()
        pause(0.01)
    while True:
        before = turns()
        pause(3)  # not until something happens: the time in which nothing may
        if turns() == before:
            break
        assert time.monotonic() < end, (before, turns())  # some may have been on their way
finally:
    job.stop()  # which lets all readers end
for thread in threads:
    thread.join(30)
    assert not thread.is_alive()
for reader in readers:
    reader.close()
print("idle")
"""
    assert run_job_script(script, tmp_path) == "idle\n"


def test_a_start_does_not_fork_this_process(tmp_path: Path) -> None:
    """Copying the page tables of a large process takes long, and would run its fork handlers."""
    script = """
forks = []
os.register_at_fork(before=lambda: forks.append("before"))
job = shell("exit 3")
assert job.wait(30).exit_code == 3
print(forks)
"""
    assert run_job_script(script, tmp_path) == "[]\n"
