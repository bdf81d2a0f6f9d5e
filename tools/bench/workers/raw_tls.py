"""Owns the limit of a stream: Python's own TLS 1.3 sockets, a process to send, one to receive."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

from bench.workers.process import cpu_seconds

CIPHER = "TLS_AES_128_GCM_SHA256"
"""What Jobby's and the Go port's servers take when gRPC's client offers its suites, seen in
their ServerHello. A client of OpenSSL's order gets AES-256 from Jobby, which costs more."""

_BLOCK = 262_144


def settings() -> str:
    """For OPENSSL_CONF, which alone restricts the suites: Python's `ssl` sets none of TLS 1.3."""
    return f"""openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = default
[default]
Ciphersuites = {CIPHER}
"""


def _check(connection: ssl.SSLSocket) -> None:
    cipher = connection.cipher()
    if cipher is None or cipher[0] != CIPHER:
        raise SystemExit(f"OPENSSL_CONF had no effect: {cipher}, not {CIPHER}")


def send(path: str, folder: str) -> None:
    """Send a file to the first who connects; the port is the first line of the output."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    at = Path(folder)
    context.load_cert_chain(at / "server.cert", at / "server.key")
    context.load_verify_locations(at / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        print(listener.getsockname()[1], flush=True)
        plain, _ = listener.accept()
    with plain, context.wrap_socket(plain, server_side=True) as connection:
        _check(connection)
        while connection.recv(1) == b"?":  # and no more when its CPU time was read
            # As a server does that does not know the file before.
            file = os.open(path, os.O_RDONLY)
            offset = 0
            while block := os.pread(file, _BLOCK, offset):
                connection.sendall(block)
                offset += len(block)
            os.close(file)


def receive(path: str, folder: str, size: int) -> dict[str, float]:
    """Have a file of `size` bytes sent; returns the figures of it."""
    with Path(path).open("wb") as file:
        subprocess.run(["head", "-c", str(size), "/dev/zero"], stdout=file, check=True)
    command = [sys.executable, "-m", "bench.workers.raw_tls", "send"]
    arguments = json.dumps({"path": path, "folder": folder})
    context = ssl.create_default_context(cafile=Path(folder, "ca.cert"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(Path(folder, "client.cert"), Path(folder, "client.key"))
    with subprocess.Popen([*command, arguments], stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        port = int(sender.stdout.readline())
        with (
            socket.create_connection(("127.0.0.1", port), 30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            _check(connection)
            _whole(connection, size)  # the servers, too, have sent it once on their connection
            before, begin = cpu_seconds(sender.pid), time.monotonic()
            _whole(connection, size)
            seconds, cpu = time.monotonic() - begin, cpu_seconds(sender.pid) - before
            connection.sendall(b"!")
    return {"rate": size / seconds / (1 << 20), "cpu_s": cpu * (1 << 30) / size}


def _whole(connection: ssl.SSLSocket, size: int) -> None:
    connection.sendall(b"?")
    buffer, total = bytearray(_BLOCK), 0
    while total < size and (count := connection.recv_into(buffer)):
        total += count
    if total != size:
        raise SystemExit(f"{total} of {size} bytes have come")


def main() -> None:
    """Send or receive, as is named."""
    arguments = json.loads(sys.argv[2])
    if sys.argv[1] == "send":
        send(**arguments)
    else:
        print(json.dumps(receive(**arguments)))


if __name__ == "__main__":
    main()
