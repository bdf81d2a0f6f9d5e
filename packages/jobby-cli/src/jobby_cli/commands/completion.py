"""Owns `jobby completion`."""

import click
from click.shell_completion import get_completion_class

from jobby_cli.completion import COMPLETE_VARIABLE
from jobby_cli.stdout import write_line


@click.command(
    short_help="Print a script that teaches your shell to complete.",
    epilog='Example:  eval "$(jobby completion bash)"',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that teaches SHELL to complete verbs, options and recent ids.

    \b
    bash:  eval "$(jobby completion bash)"       in ~/.bashrc
    zsh:   eval "$(jobby completion zsh)"        in ~/.zshrc, after compinit
    fish:  jobby completion fish | source        in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    write_line(kind(context.find_root().command, {}, "jobby", COMPLETE_VARIABLE).source())
