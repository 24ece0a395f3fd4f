"""The sizes of Stable Video Diffusion XT 1.1: arguments of its networks' classes, as published with it.

Only what differs from the defaults of the classes, or where these must not be trusted.
"""

from typing import Any

SVD_UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "num_attention_heads": (5, 10, 20, 20),
    "num_frames": 25,
}
SVD_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
}
SVD_IMAGE_ENCODER: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "projection_dim": 1024,
    "image_size": 224,
    "patch_size": 14,
}
"""CLIP ViT-H/14, as published with it."""
