"""ControlNeXt for pictures: on Stable Diffusion 1.5, SDXL and SD3, sampled by diffusers' own pipelines."""
