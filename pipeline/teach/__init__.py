"""One real dancer, taught to the shipped model."""
