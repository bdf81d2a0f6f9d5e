"""What the end-to-end tests drive and look at: certificates, a server, users, clients, /proc.

- `certificates`  a CA of the test's own, and good and bad certificates from it
- `server`        one running `jobby-server`
- `user`          somebody with a certificate, a home and the `jobby` command
- `calls`         clients generated from the contract's texts, over any certificate
- `gate`          holds a job back until the test lets it go on
- `program`       a process whose lines can be waited for
- `terminal`      a program in front of a pseudoterminal
- `proxy`         a TCP proxy that cuts, stalls, delays and half-closes
- `data`          large random outputs
- `procfs`        what the kernel knows of a process
- `waiting`       conditions with a deadline
"""
