"""The entry point `plasticode`. Before the command line is there, an interrupt ends the process without a traceback."""

import gc

from experiments.machine.interrupts import quiet

GARBAGE = 50_000  # new objects between two looks for garbage: to trace a program takes a million, which stay


def main() -> None:
    """Run the command line."""
    quiet()
    gc.set_threshold(GARBAGE, 10, 10)
    from experiments.commands.cli import main as run

    run()
