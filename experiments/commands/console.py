"""What all commands share: their options, exit codes, and how mistakes and interrupts are told."""

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from experiments.machine.interrupts import SIGNALLED, interruptible

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
ADDRESSES = 3e9  # bytes of address space: with 2e9 the libraries abort as they start their threads

SpecName = Annotated[str, typer.Argument(metavar="SPEC", help="A TOML file, or the name of a built-in spec.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help='Change the spec, e.g. stimulus.duration="80 ms". Repeatable.'),
]
Quick = Annotated[bool, typer.Option("--quick", help="The spec's small version, for a first look.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where results go.", show_default="results/NAME, or results/NAME-quick"),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The first seed.", show_default="that of the spec")]
Force = Annotated[bool, typer.Option("--force", help="Start anew, whatever a run has left in DIR.")]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="Processes of this machine.", show_default="this one alone")
]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="A dask scheduler.")]

NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Neither find compiled programs in the user's cache folder nor keep them there."),
]


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """A user's mistake ends in one sentence and exit code 2, an interrupt in how to start again."""
    try:
        with interruptible():
            yield
    except ValueError as error:
        from dynamics.errors import PlasticodeError

        if not isinstance(error, PlasticodeError):
            raise
        say(f"error: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    except BrokenPipeError:
        raise
    except OSError as error:  # what nothing above had better words for
        from dynamics.errors import printable, reason

        where = f"'{printable(str(error.filename), 200)}'" if error.filename else "the working folder"
        told = f"{where} cannot be used ({reason(error)}): it must be a place that exists"
        say(f"error: {told} and that this process may read", err=True)
        raise typer.Exit(REFUSED) from None
    except MemoryError:
        told = "there is not enough memory; what is finished is kept, and `check` tells what a spec needs"
        say(f"error: {told}", err=True)
        raise typer.Exit(REFUSED) from None
    except KeyboardInterrupt:
        tell_interrupted("nothing was changed")


def check_addresses() -> None:
    """Refuse what would end in an abort of the libraries, before they are imported."""
    import resource

    from dynamics.errors import PlasticodeError

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < ADDRESSES:
        raise PlasticodeError(
            f"the address space of this process is limited to {limit / 1e9:.2f} GB (ulimit -v): "
            f"{ADDRESSES / 1e9:.0f} GB or more are needed"
        )


def say(text: str, err: bool = False) -> None:
    """Print a text, whose parts may be anybody's: names of files, of parts, of probes."""
    from dynamics.errors import visible

    typer.echo(visible(text), err=err)


def command() -> str:
    return shlex.join(["plasticode", *sys.argv[1:]])


def tell_interrupted(what: str) -> NoReturn:
    SIGNALLED.clear()  # it was obeyed
    say(f"\ninterrupted: {what}; to go on: {command()}", err=True)
    raise typer.Exit(INTERRUPTED)
