"""Owns the errors that keep the server from starting, each with its exit code."""

# sysexits.h: what a service manager or a script can tell the cases apart by.
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_IO = 74
EXIT_CONFIG = 78


class StartupError(Exception):
    """The server does not start; the text says why and what to do, in one line.

    Attributes:
        exit_code: what the process exits with.
    """

    exit_code = EXIT_SOFTWARE


class ConfigError(StartupError):
    """A setting, or a file it names, cannot be used."""

    exit_code = EXIT_CONFIG


class AddressInUseError(StartupError):
    """Somebody else listens on the address."""

    exit_code = EXIT_UNAVAILABLE


class StateInUseError(StartupError):
    """Another server uses the state folder."""

    exit_code = EXIT_UNAVAILABLE


class UsageError(StartupError):
    """Settings that exclude each other."""

    exit_code = EXIT_USAGE


class OutputError(StartupError):
    """What was asked for cannot be written to the standard output."""

    exit_code = EXIT_IO


class TlsPolicyError(StartupError):
    """The TLS library would accept less than TLS 1.3, or does not work at all."""

    exit_code = EXIT_SOFTWARE
