"""Puppets: drawn dancers whose every keypoint is known."""
