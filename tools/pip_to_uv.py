"""Owns the translation of this user's pip configuration for uv.

Prints shell commands that export uv's variables, for tools/hatch to evaluate:
uv does not read pip's configuration, and who reaches packages only through a
mirror, a folder or an own certificate authority has usually told pip alone.
What the user has set for uv is never touched. Runs on the standard library
and the pip of the environment it runs in.
"""

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# The later ones win: https://pip.pypa.io/en/stable/topics/configuration/#precedence-override-order
SECTIONS = ("global", "install", ":env:")
UV_SOURCES = (
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
)


def uv_is_configured(environ: Mapping[str, str]) -> bool:
    """Whether the user has told uv where packages come from."""
    if any(environ.get(name) for name in UV_SOURCES):
        return True
    # https://docs.astral.sh/uv/concepts/configuration-files/
    personal = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    system = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    folders = [personal / "uv", *(Path(folder) / "uv" for folder in system), Path("/etc/uv")]
    return any((folder / "uv.toml").is_file() for folder in folders)


def pip_settings() -> dict[str, str]:
    """What `pip config list` says, one value an option, the most specific one.

    Empty when pip is not there or cannot tell.
    """
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,  # without pip there is nothing to translate
    )
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listing.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in found:
            # pip prints each value as a Python literal.
            found[section][option] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found[":env:"]


def translate(pip: Mapping[str, str]) -> dict[str, str]:
    """The variables of uv that say what these options of pip say.

    >>> translate({"extra-index-url": "https://a/simple https://b/simple"})["UV_INDEX"]
    'https://a/simple https://b/simple'
    """
    uv: dict[str, str] = {}
    if index := pip.get("index-url"):
        uv["UV_DEFAULT_INDEX"] = index
    if more := pip.get("extra-index-url", "").split():
        uv["UV_INDEX"] = " ".join(more)
        # pip takes the best version from all of its indexes; uv would stop at the first.
        uv["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if links := pip.get("find-links", "").split():
        uv["UV_FIND_LINKS"] = ",".join(links)
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        # The nearest that uv has as a variable: nothing but local folders.
        uv["UV_OFFLINE"] = "1"
    if hosts := pip.get("trusted-host", "").split():
        uv["UV_INSECURE_HOST"] = " ".join(hosts)
    if certificates := pip.get("cert"):
        uv["SSL_CERT_FILE"] = certificates
    if own_certificate := pip.get("client-cert"):
        uv["SSL_CLIENT_CERT"] = own_certificate
    if seconds := pip.get("timeout") or pip.get("default-timeout"):
        uv["UV_HTTP_TIMEOUT"] = seconds
    if proxy := pip.get("proxy"):
        uv["ALL_PROXY"] = proxy
    return uv


def main() -> None:
    """Print what to export, nothing where uv has its own configuration."""
    if uv_is_configured(os.environ):
        return
    for name, value in translate(pip_settings()).items():
        if not os.environ.get(name):
            print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
