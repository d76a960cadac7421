"""Emergent Hebbian learning: what weight decay and noise make of any learning rule."""

HEBBIAN: dict[str, str] = {}
