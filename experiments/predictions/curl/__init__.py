"""Curl descent: phase boundaries of sign-diverse plasticity, its invariants, rates and chaos."""

CURL: dict[str, str] = {}
