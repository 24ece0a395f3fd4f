"""How much memory a job will need, roughly, before it starts."""

from typing import TYPE_CHECKING

from ..stages.generate import Settings

if TYPE_CHECKING:
    from ..stages.svd.generator import SvdGenerator

UNET_MAPS = 50
"""Feature maps of the UNet's first level that are alive at its peak. Measured as resident memory of one call
on the CPU: 51 to 58 with windows of 8 at 256x384 and 512x768, 48 with 24."""
DECODER_MAPS = 12
"""The same for the VAE's decoder and its first level at full resolution: 8 to 13."""


def expected_memory(
    generator: "SvdGenerator", settings: Settings, num_frames: int, width: int, height: int
) -> tuple[int, int]:
    """Bytes of the weights, and bytes that the larger of one UNet call and one decoder call adds to them."""
    networks = (generator.unet, generator.controlnext, generator.vae, generator.image_encoder)
    weights = sum(parameter.nbytes for network in networks for parameter in network.parameters())
    item = generator.unet.dtype.itemsize
    area = (width // generator.downscale) * (height // generator.downscale)
    halves = 1 if settings.guidance_scale == 1 else 2
    window = min(settings.window_size, num_frames)
    unet = UNET_MAPS * halves * window * generator.unet.config["block_out_channels"][0] * area * item
    chunk = min(settings.decode_chunk, num_frames)
    decoder = DECODER_MAPS * chunk * generator.vae.config["block_out_channels"][0] * width * height * item
    return weights, max(unet, decoder)
