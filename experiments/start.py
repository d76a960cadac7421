"""The entry point `plasticode`. Before the command line is there, an interrupt ends the process without a traceback."""

from experiments.machine.interrupts import quiet


def main() -> None:
    """Run the command line."""
    quiet()
    from experiments.cli import main as run

    run()
