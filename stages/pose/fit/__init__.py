"""Fitting the dancer's skeleton to the character's."""
