"""Side-by-side speed runs against peers. Not part of the installed package."""
