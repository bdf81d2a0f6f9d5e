"""Owns one run of the command: its settings, the server it talks to, the jobs it knows."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jobby_cli import ids, profile
from jobby_cli.failures import EX_NO_SUCH_JOB, EX_USAGE, CommandError, say
from jobby_cli.profile import Profile
from jobby_cli.recent import Recent, Scope
from jobby_client.credentials import Credentials
from jobby_client.errors import CredentialsError

if TYPE_CHECKING:
    from jobby_client.client import Client


@dataclass(frozen=True)
class Session:
    """What the global options said, and what follows from it, found out when it is needed.

    Attributes:
        flags: `--server`, `--ca`, `--cert` and `--key`, None where not given.
        config: `--config`, if it was given.
    """

    flags: Mapping[str, str | None]
    config: str | None

    @cached_property
    def profile(self) -> Profile:
        """Which server, which files. Raises `CommandError`."""
        return profile.load(self.flags, self.config, os.environ)

    @cached_property
    def credentials(self) -> Credentials:
        """What the files hold. Raises `CommandError`."""
        return self.profile.credentials()

    @cached_property
    def scope(self) -> Scope:
        """Whose recent jobs, and where. Raises `CommandError`."""
        try:
            subject = self.credentials.check().subject
        except CredentialsError as error:
            raise self.profile.failure(error) from error
        return Scope(str(self.profile.address), subject)

    @cached_property
    def recent(self) -> Recent:
        """The jobs this user started from this machine."""
        return Recent.of_user(os.environ)

    @contextmanager
    def connect(self) -> Iterator["Client"]:
        """Gives a client of the server. Raises `CommandError` for files that cannot be used."""
        from jobby_client.client import Client  # here grpc is loaded, after `environment.adopt`

        if self.credentials.is_sample():
            say(
                f"warning: {self.credentials.name('cert')} is a published sample, and everybody "
                "has its key; make your own with `jobby certs init`"
            )
        try:
            client = Client(self.profile.address, self.credentials)
        except CredentialsError as error:
            raise self.profile.failure(error) from error
        with client:
            yield client

    def job(self, text: str) -> uuid.UUID:
        """Returns the job that is meant by an id or the beginning of one. Raises `CommandError`."""
        try:
            if (whole := ids.whole(text)) is not None:
                return whole
            return ids.complete(text, [job_id for job_id, _ in self.recent.jobs(self.scope)])
        except ids.UnknownPrefixError:
            raise CommandError(
                f"no job that was started from here on {self.scope.server} has an id that begins "
                f"with {text!r}; give the whole id",
                EX_NO_SUCH_JOB,
            ) from None
        except ValueError as error:
            raise CommandError(str(error), EX_USAGE) from error

    def job_or_last(self, text: str | None) -> uuid.UUID:
        """Returns the job that is meant, or the last started; says which. Raises `CommandError`."""
        if text is not None:
            return self.job(text)
        jobs = self.recent.jobs(self.scope)
        if not jobs:
            raise CommandError(
                f"no job was started from here on {self.scope.server} yet, so none can be left "
                "out; give an id",
                EX_USAGE,
            )
        job_id, command = jobs[0]
        say(f"job {job_id} ({command}), the last one started from here")
        return job_id

    def global_options(self) -> list[str]:
        """Returns the global options as they have to be typed again to get the same settings."""
        given = {**self.flags, "config": self.config}
        return [word for name, value in given.items() if value for word in (f"--{name}", value)]
