"""Levers: what makes a network faster or leaner, each put on and taken off again."""
