"""Who may do what, and what the store tells them."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_core import Job, JobArgs
from jobby_server.access import Action, allowed
from jobby_server.identity import Owner, Principal
from jobby_server.store import Record, Store

NAMES = st.sampled_from(["CN=alice", "CN=Alice", "CN=bob"])
CAS = st.sampled_from(["ca1", "ca2"])
OWNERS = st.builds(Owner, NAMES, CAS)
GROUPS = st.frozensets(st.sampled_from(["admins", "team"]))
PRINCIPALS = st.builds(
    Principal,
    OWNERS,
    GROUPS,
    st.just(datetime(2000, 1, 1, tzinfo=UTC)),
    st.just(datetime(9999, 1, 1, tzinfo=UTC)),
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job to keep under ids."""
    folder: Path = tmp_path_factory.mktemp("job")
    job = Job.start(JobArgs("true", stdout_path=folder / "out", stderr_path=folder / "err"))
    yield job
    job.stop()


@given(PRINCIPALS, st.sampled_from(Action), OWNERS)
def test_only_the_owner_may_do_anything(principal: Principal, action: Action, owner: Owner) -> None:
    """For every action there is: the same name under the same CA, and nothing else, decides."""
    assert allowed(principal, action, owner) == (
        (principal.owner.name, principal.owner.authority) == (owner.name, owner.authority)
    )


@given(
    kept=st.dictionaries(st.uuids(), st.tuples(OWNERS, GROUPS), max_size=6),
    principal=PRINCIPALS,
    action=st.sampled_from(Action),
    stranger=st.uuids(),
)
def test_the_store_gives_out_ones_own_and_nothing_else(
    job: Job,
    kept: dict[uuid.UUID, tuple[Owner, frozenset[str]]],
    principal: Principal,
    action: Action,
    stranger: uuid.UUID,
) -> None:
    """A job of somebody else and no job are both None, whatever is in the store."""
    store = Store()
    for job_id, (owner, groups) in kept.items():
        store.add(job_id, Record(job, owner, groups))
    assert len(store) == len(kept)
    for job_id in [*kept, stranger]:
        mine = job_id in kept and kept[job_id][0] == principal.owner
        assert store.find(principal, action, job_id) is (job if mine else None)
    for job_id in kept:
        store.remove(job_id)
    assert list(store) == []


def test_an_id_is_never_given_twice(job: Job) -> None:
    """A taken id is an error: the second job would take the first one's place."""
    store, job_id = Store(), uuid.uuid4()
    record = Record(job, Owner("CN=alice", "ca"), frozenset())
    store.add(job_id, record)
    with pytest.raises(KeyError):
        store.add(job_id, record)
    store.remove(uuid.uuid4())  # an unknown one is no error
    assert len(store) == 1
