"""Whole-body pose: estimate, clean, align to the reference, draw."""
