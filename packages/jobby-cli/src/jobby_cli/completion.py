"""Owns what the shell is offered: recent jobs, files. Loads no grpc, and never complains."""

import os
from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    split_arg_string,
)

from jobby_cli.profile import SETTINGS
from jobby_cli.recent import Recent
from jobby_cli.session import Session

COMPLETE_VARIABLE: Final = "_JOBBY_COMPLETE"
"""The variable by which the shell's script asks for completions; click gives it its meaning."""


# COMP_POINT counts characters, as a substring does. $2 is the part of the word that bash replaces.
_BASH_SCRIPT: Final = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        if [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            COMPREPLY+=("$value")
        fi
    done < <(
        IFS=$'\\n'
        COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_REPLACED="$2" COMP_WORDS="${COMP_WORDS[*]}" \\
        COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1"
    )
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class WholeWords(BashComplete):
    """Completes in bash, whose words are not the command's: it parts them at each : and =.

    In `jobby --server localhost:50051 st` the verb would be `:`. So the line itself is read.
    """

    source_template = _BASH_SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Returns the words before the cursor, and the one that it is in, which may be empty."""
        line = os.environ.get("COMP_LINE")
        if not line:  # the completion of an alias, say, has words only
            return super().get_completion_args()
        # With a letter behind the cursor there is always a word, as there is for the shell.
        *words, word = split_arg_string(f"{line}x")
        return words[1:], word[:-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Returns what is to stand in the place of the part that bash replaces."""
        word = self.get_completion_args()[1]
        # Of --type=std, click completes the value alone.
        option = f"{word.partition('=')[0]}=" if word.startswith("-") and "=" in word else ""
        kept = word.removesuffix(os.environ.get("COMP_REPLACED", word))
        return f"{item.type},{f'{option}{item.value}'.removeprefix(kept)}"


def complete_file(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> Sequence[CompletionItem]:
    """Leaves it to the shell, which offers the names of files."""
    del context, parameter
    return [CompletionItem(incomplete, type="file")]


def complete_job(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> Sequence[CompletionItem]:
    """Returns the ids that begin with what was typed, the last started job first."""
    del parameter
    root = context.find_root()
    flags = {name: root.params.get(name) for name in SETTINGS}
    session = Session(flags, root.params.get("config"))
    try:
        # Whatever is wrong is said when the command is run; here it would spoil the line.
        jobs = Recent.of_user(os.environ, tell=lambda _: None).jobs(session.scope)
    except Exception:  # noqa: BLE001 - there is nobody to tell while a line is typed
        return []
    typed = incomplete.lower()
    return [
        CompletionItem(str(job_id), help=command)
        for job_id, command in jobs
        if str(job_id).startswith(typed)
    ]
