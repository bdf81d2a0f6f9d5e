"""Owns what the shell is offered: recent jobs, files. Loads no grpc, and never complains."""

import os
from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import CompletionItem

from jobby_cli.profile import SETTINGS
from jobby_cli.recent import Recent
from jobby_cli.session import Session

COMPLETE_VARIABLE: Final = "_JOBBY_COMPLETE"
"""The variable by which the shell's script asks for completions; click gives it its meaning."""


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
