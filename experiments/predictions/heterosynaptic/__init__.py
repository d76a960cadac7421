"""Heterosynaptic circuits: how feedback settles and aligns, and what can learn."""

HETEROSYNAPTIC: dict[str, str] = {}
