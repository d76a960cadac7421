"""`python -m plasticode` is the command `plasticode`."""

from experiments.commands.start import main

if __name__ == "__main__":
    main()
