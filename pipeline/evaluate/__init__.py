"""Evaluate: what is measured of models, pose estimators, claims and speed."""
