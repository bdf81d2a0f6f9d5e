"""Faults, injected for real, and what must not be lost by them.

`./tools/hatch run test` injects each of them once, small; `./tools/hatch run faults` as often and
as long as it is told. Both run this code:

- `catalogue`   the faults by name
- `scene`       what a fault is given: installed wheels, certificates, chance, a size
- `losses`      what is counted: bytes, exit codes, orphans, other promises
- `host`        a state folder, the server on it, and every process that comes of it
- `agent`       a process with the installed `jobby_client`; `agent_main` is its program
- `paced`       jobs whose output is known, and grows when it is told to

and one module for each kind of fault: `kills`, `networks`, `disks`, `records`, `limits`, `clocks`,
`unruly`, `crowds`; `soak` is for the command alone.
"""
