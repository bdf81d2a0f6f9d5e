"""Jobby beside its peers: the same work, in turn, round by round, told in ratios.

- `__main__`: the command line, and the run.
- `figure`: what is measured and which goal it has. `spread`, `table` and `chart` are pure.
- `stamps`: how late a follower hears, the same for ours and for the peers.
- `cases`: the work, one file a subject; `contenders` are those who do it.
- `workers`: programs that run in the environments of the installed wheels, and call them.
- `native`: peers and jobs in C.

Every ratio is one of two values of the same round; what is told is their median.
CPU seconds are told where they say more than a rate that other programs disturb.
"""
