"""Owns the measuring of Ray Jobs: submit and wait. Runs where ray[default] is, and none of ours."""

import json
import sys
import time
from importlib import import_module
from typing import Any


def main() -> None:
    """Does it `count` times, in a cluster of its own on this machine."""
    # By name: they are in no environment of this repository.
    ray: Any = import_module("ray")
    jobs: Any = import_module("ray.job_submission")
    count, folder = int(sys.argv[1]), sys.argv[2]
    context = ray.init(
        num_cpus=1,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=0,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    try:
        client = jobs.JobSubmissionClient(f"http://{context.dashboard_url}")
        running = (jobs.JobStatus.PENDING, jobs.JobStatus.RUNNING)
        calls, begin = [], time.perf_counter()
        for _ in range(count):
            at = time.perf_counter()
            job = client.submit_job(entrypoint="/bin/true")
            calls.append(time.perf_counter() - at)
            while client.get_job_status(job) in running:
                time.sleep(0.01)  # it has no call that waits
        seconds = time.perf_counter() - begin
    finally:
        ray.shutdown()
    print(json.dumps({"rate": count / seconds, "call_us": sorted(calls)[count // 2] * 1e6}))


if __name__ == "__main__":
    main()
