import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_cli.arguments import command_line, refuse_misread

WORDS = st.lists(st.text(max_size=8), max_size=5)


@given(st.text(), WORDS)
def test_both_forms_give_the_same(command: str, args: list[str]) -> None:
    """Arguments by -a and plain ones arrive alike, unchanged and in order."""
    assert command_line([command, *args], []) == (command, tuple(args))
    assert command_line([command], args) == (command, tuple(args))


@given(WORDS.filter(bool), WORDS.filter(bool))
def test_a_mixture_is_never_guessed_at(rest: list[str], options: list[str]) -> None:
    """Both forms at once have no order among them, so they are refused."""
    with pytest.raises(ValueError, match="use one form"):
        command_line(["echo", *rest], options)


@given(WORDS)
def test_without_a_command_there_is_nothing_to_start(options: list[str]) -> None:
    """Options alone name no command."""
    with pytest.raises(ValueError, match="no command"):
        command_line([], options)


@pytest.mark.parametrize(
    "typed", [["ls", "-al"], ["ls", "-a", "-l"], ["-a", "--", "ls"], ["x", "-a", "y", "-ab"]]
)
def test_the_commands_own_a_is_no_option(typed: list[str]) -> None:
    """What `ls -al` is elsewhere is never taken for `ls l`: it is refused, with the way out."""
    with pytest.raises(ValueError, match="is written --arg="):
        refuse_misread(typed, ["--arg", "--timeout"])


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["echo", "-a", "hello", "-a", "", "-a", "-"],
        ["--", "ls", "-al", "-a", "-l"],
        ["ls", "--arg", "-al", "--timeout", "-a", "-a"],
    ],
)
def test_what_is_clear_is_taken(typed: list[str]) -> None:
    """The RFD's own form, a lone dash, what is another option's value, and everything after --."""
    refuse_misread(typed, ["--arg", "--timeout"])
