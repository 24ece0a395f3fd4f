"""Batch: many videos, each made as `animate` makes it, and nothing made twice."""
