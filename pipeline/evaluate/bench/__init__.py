"""Bench: two ways of doing the same, measured in turns in one run."""
