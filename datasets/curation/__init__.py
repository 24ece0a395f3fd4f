"""Curation: what a clip of a raw video shows, measured; which clips teach a dance, and which are copies."""
