"""`python -m plasticode` is the command `plasticode`."""

from experiments.start import main

if __name__ == "__main__":
    main()
