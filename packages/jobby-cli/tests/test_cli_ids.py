import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_cli import ids

UUIDS = st.uuids()


@given(UUIDS)
def test_a_whole_id_needs_no_list(job: uuid.UUID) -> None:
    """In each usual spelling, all of an id is that id."""
    for text in (str(job), str(job).upper(), job.hex):
        assert ids.whole(text) == job


@given(st.lists(UUIDS, min_size=1, max_size=20), st.integers(1, 35), st.data())
def test_a_beginning_means_the_one_job_it_fits_or_none(
    known: list[uuid.UUID], length: int, data: st.DataObject
) -> None:
    """A beginning gives the job that has it; with several such, it is refused."""
    job = data.draw(st.sampled_from(known))
    text = str(job)[:length]
    fitting = {each for each in known if str(each).startswith(text)}
    if len(fitting) == 1:
        assert ids.complete(text, known) == job
    else:
        with pytest.raises(ValueError, match="give more of it"):
            ids.complete(text, known)


@given(UUIDS, st.lists(UUIDS, max_size=5))
def test_an_unknown_beginning_is_told_apart(job: uuid.UUID, known: list[uuid.UUID]) -> None:
    """A beginning that fits nothing known is no typing error."""
    known = [each for each in known if each != job]
    with pytest.raises(ids.UnknownPrefixError):
        ids.complete(str(job), known)


@pytest.mark.parametrize("text", ["", "-", "xyz", "d19af777x", "٣", "{d19a", "0" * 33, " d1"])
def test_what_is_no_id_is_refused(text: str) -> None:
    """Nothing but hexadecimal digits and dashes can begin an id."""
    with pytest.raises(ValueError, match="is not a job's id"):
        ids.whole(text)
    with pytest.raises(ValueError, match="is not a job's id"):
        ids.complete(text, [uuid.uuid4()])
