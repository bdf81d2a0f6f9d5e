"""Owns the jobs of this server's life: id to job, owner and groups. In memory only."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from jobby_core import Job
from jobby_server.access import Action, allowed
from jobby_server.identity import Owner, Principal


@dataclass(frozen=True, slots=True)
class Record:
    """A job and whose it is.

    Attributes:
        job: the job itself.
        owner: who started it.
        groups: the groups in the certificate that started it.
    """

    job: Job
    owner: Owner
    groups: frozenset[str]


_NOBODY = Owner(name="", authority="")
"""Owns nothing: a certificate without a subject is never accepted."""


class Store:
    """The jobs by id. All of it happens on the event loop's thread, so it needs no lock."""

    def __init__(self) -> None:
        self._records: dict[uuid.UUID, Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[tuple[uuid.UUID, Record]]:
        return iter(list(self._records.items()))

    def add(self, job_id: uuid.UUID, record: Record) -> None:
        """Keeps a job under an id that is not taken.

        Raises:
            KeyError: it is taken.
        """
        if job_id in self._records:
            raise KeyError(job_id)
        self._records[job_id] = record

    def remove(self, job_id: uuid.UUID) -> None:
        """Forgets a job; an unknown id is no error."""
        self._records.pop(job_id, None)

    def find(self, principal: Principal, action: Action, job_id: uuid.UUID) -> Job | None:
        """Returns the job if `principal` may do `action` to it.

        None stands for "no such job" and for "not yours". Both take the same
        steps, so that neither the answer nor its timing tells them apart.
        """
        record = self._records.get(job_id)
        owner = _NOBODY if record is None else record.owner
        if not allowed(principal, action, owner) or record is None:
            return None
        return record.job
