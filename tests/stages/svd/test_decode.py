"""Decoding in chunks: every frame once and in order, chunks as published, overlaps that fade."""

import pytest
import torch

from posedance.stages.errors import ConfigError
from posedance.stages.models import load_generator
from posedance.stages.pixels import to_uint8
from posedance.stages.svd.decode import decode
from posedance.stages.svd.levers.fast import compile_regions, flatten_convolutions


@pytest.fixture(scope="module")
def vae():
    return load_generator("tiny-random").vae


@pytest.fixture(scope="module")
def latents():
    return torch.randn(11, 4, 2, 2, generator=torch.Generator().manual_seed(0))


def together(vae, latents):
    """One call of the decoder, with its temporal convolutions in two dimensions, as ours has them."""
    convolutions = flatten_convolutions(vae)
    with torch.no_grad():
        frames = vae.decode(latents / vae.config.scaling_factor, num_frames=len(latents)).sample
    convolutions.detach()
    return frames


@pytest.mark.parametrize(("chunk", "overlap"), [(2, 0), (4, 0), (4, 1), (4, 3), (8, 2), (20, 5)])
def test_every_frame_comes_once_in_order(vae, latents, chunk, overlap):
    frames = torch.stack(list(decode(vae, latents, chunk, overlap)))
    assert frames.shape == (11, 3, 16, 16)
    whole = together(vae, latents)
    # each frame resembles its own decoding more than any other's
    distance = torch.cdist(frames.flatten(1), whole.flatten(1))
    assert (distance.argmin(1) == torch.arange(11)).all()


def test_one_chunk_is_one_call(vae, latents):
    for overlap in (0, 2):
        assert torch.equal(torch.stack(list(decode(vae, latents, 11, overlap))), together(vae, latents))


def test_plain_chunks_are_the_published_ones(vae, latents):
    frames = torch.stack(list(decode(vae, latents, 4, 0)))
    assert torch.equal(frames[4:8], together(vae, latents[4:8]))
    assert torch.equal(frames[8:], together(vae, latents[8:]))


def test_overlapped_chunks_fade(vae, latents):
    frames = torch.stack(list(decode(vae, latents[:6], 4, 2)))
    first, second = together(vae, latents[:4]), together(vae, latents[2:6])
    assert torch.allclose(frames[:2], first[:2], atol=1e-6)
    assert torch.allclose(frames[2], first[2] * 2 / 3 + second[0] / 3, atol=1e-5)
    assert torch.allclose(frames[3], first[3] / 3 + second[1] * 2 / 3, atol=1e-5)
    assert torch.allclose(frames[4:], second[2:], atol=1e-6)


def test_decoding_is_streamed(vae, latents):
    calls = []
    hook = vae.decoder.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    frames = decode(vae, latents, 4, 1)
    next(frames)
    hook.remove()
    assert calls == [4]


@pytest.mark.parametrize(("overlap", "compiled"), [(0, [True, True, False]), (1, [True] * 4)])
def test_compiled_blocks_serve_whole_chunks_alone(vae, latents, overlap, compiled, monkeypatch, caplog):
    """A remainder would be compiled anew, for one call."""
    caplog.set_level("INFO")
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    plain = torch.stack(list(decode(vae, latents, 4, overlap)))
    with compile_regions(vae) as regions:
        asked = []
        hook = vae.decoder.register_forward_pre_hook(lambda *_: asked.append(regions.enabled))
        frames = torch.stack(list(decode(vae, latents, 4, overlap, compiled=regions)))
        hook.remove()
    assert torch.equal(frames, plain)
    assert asked == compiled
    assert ("3 frames are fewer than the 4 of a chunk" in caplog.text) == (not all(compiled))


def test_a_video_shorter_than_a_chunk_is_not_compiled(vae, latents, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    with compile_regions(vae) as regions:
        list(decode(vae, latents[:3], 8, 2, compiled=regions))
        assert not regions.enabled


def test_impossible_overlap(vae, latents):
    with pytest.raises(ConfigError, match="overlap 4"):
        next(decode(vae, latents, 4, 4))


def test_to_uint8_clips_and_rounds():
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).expand(3, 1, 5)
    assert to_uint8(values)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
