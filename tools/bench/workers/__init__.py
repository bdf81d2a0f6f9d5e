"""Programs that the benchmark runs inside of the environments of the installed wheels.

Each is called as `python -m bench.workers.NAME JOB JSON`, and prints one JSON object.
"""
