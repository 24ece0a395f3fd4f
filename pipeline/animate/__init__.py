"""Animate: the steps that make one video, and the commands over them."""
