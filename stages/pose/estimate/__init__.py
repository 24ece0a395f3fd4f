"""Estimators: what finds people, their joints and their hands in frames."""
