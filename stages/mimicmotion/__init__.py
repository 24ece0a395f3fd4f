"""MimicMotion (arXiv:2406.19680): another control module for the same UNet and sampler."""
