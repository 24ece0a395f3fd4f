"""Files: what a model is read from and written to, every key of it accounted for."""
