"""Stable Video Diffusion: denoiser, conditioning and sampling over windows."""
