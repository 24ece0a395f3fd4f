"""The sampler over windows: the control cache, windows in any order, guidance, consistency models."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posedance.stages.svd.conditioning import initial_noise, step_noise
from posedance.stages.svd.denoiser import timestep_of
from posedance.stages.svd.denoising import Denoising, denoise
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.sampling import ControlCache
from posedance.stages.svd.schedule import SVD_SCHEDULER, consistency_sigmas, euler_step, sampling_sigmas
from posedance.stages.windows import blend, even, plan, published


@pytest.fixture(scope="module")
def controlnext():
    return tiny_random().controlnext


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


SIGMAS = torch.tensor([5.0, 1.0, 0.2])
WINDOWS = even(12, 5, 1)


def sweep(cache):
    """Control of all windows at all steps."""
    return [[cache(step, sigma, w.control) for w in WINDOWS] for step, sigma in enumerate(SIGMAS)]


@pytest.mark.parametrize("keep_bytes", [0, 20_000, 1 << 30])
@pytest.mark.parametrize("chunk", [1, 3])
def test_cache_gives_what_the_module_gives(controlnext, frames, keep_bytes, chunk):
    cache = ControlCache(controlnext, frames, keep_bytes, chunk)
    for step, controls in enumerate(sweep(cache)):
        for window, control in zip(WINDOWS, controls, strict=True):
            pixels = torch.from_numpy(frames[list(window.control)]).permute(0, 3, 1, 2) / 255
            direct = controlnext(pixels[None], timestep_of(SIGMAS[step]))
            assert torch.allclose(control, direct, atol=1e-5)
    assert cache.kept_bytes <= keep_bytes


def test_cache_gives_the_same_bits_whatever_was_asked_before(controlnext, frames):
    everything = sweep(ControlCache(controlnext, frames))
    only_last = ControlCache(controlnext, frames, keep_bytes=0)(2, SIGMAS[2], WINDOWS[-1].control)
    assert torch.equal(everything[2][-1], only_last)


@pytest.mark.parametrize("keep_bytes", [0, 20_000, 1 << 30])
def test_the_same_frames_are_worked_on_together_whatever_is_asked(controlnext, frames, keep_bytes):
    """On a GPU the bits of a frame's features depend on its batch: whoever asks, it must be the same one."""
    marked = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], frames.shape)
    together = set()
    hook = controlnext.embedding.register_forward_pre_hook(
        lambda module, args: together.add(tuple((args[0][:, 0, 0, 0] * 255).round().int().tolist()))
    )
    for asked in ([0, 5, 6, 7], [0, 1, 2, 3], [11], [0, 9, 10, 11], [4, 0, 7]):
        cache = ControlCache(controlnext, marked, keep_bytes, chunk=5)
        cache(0, SIGMAS[0], [3])
        cache(0, SIGMAS[0], asked)
        cache(1, SIGMAS[1], asked)
    hook.remove()
    assert together == {(0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11)}


def test_cache_works_once_for_each_frame_and_step(controlnext, frames):
    counts = Counter()
    hooks = [
        controlnext.embedding.register_forward_hook(lambda m, a, o: counts.update(stem=len(o))),
        controlnext.mid_convs[1].register_forward_hook(lambda m, a, o: counts.update(rest=len(o))),
    ]
    sweep(ControlCache(controlnext, frames))
    for hook in hooks:
        hook.remove()
    assert counts == {"stem": len(frames), "rest": len(frames) * len(SIGMAS)}


class Counted:
    """Frames that count how often each is read."""

    def __init__(self, frames):
        self.frames, self.reads = frames, Counter()

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, part):
        self.reads.update(range(*part.indices(len(self))))
        return self.frames[part]


@pytest.mark.parametrize("keep_bytes", [0, 20_000, 1 << 30])
def test_a_control_frame_is_read_once_for_all_steps(controlnext, frames, keep_bytes):
    counted = Counted(frames)
    cache = ControlCache(controlnext, counted, keep_bytes, chunk=2)
    sweep(cache)
    assert counted.reads == dict.fromkeys(range(len(frames)), 1)
    kept = len(cache._kept)
    assert keep_bytes == 20_000 or kept == (len(frames) if keep_bytes else 0)
    assert cache._pictures.kept_bytes == (len(frames) - kept // 2 * 2) * frames[0].nbytes


@pytest.mark.parametrize("workers", [1, 2])
def test_the_next_window_is_read_while_the_unet_works(frames, workers):
    """Of one worker the next, of two the next but one, and at the last step nothing more."""
    generator = tiny_random()
    generator.keep_control_bytes = generator.keep_frame_bytes = 0
    options = replace(generator.settings(), steps=2, window_size=5, window_overlap=1, guidance_scale=1.0)
    with generator.sampler(frames[0], frames, options) as sampler:
        own = range(workers - 1, len(sampler.windows), workers)
        order = [(step, index) for step in range(2) for index in own]
        assert len(order) == 2 * (4 // workers)
        for (step, index), following in zip(order, [*order[1:], None], strict=True):
            sampler.predict(step, index, torch.zeros(len(sampler.windows[index]), 4, 4, 4))
            if step or index > own[0]:  # the first of two workers has seen how far its windows are apart
                asked = set() if following is None else set(sampler.windows[following[1]].control)
                here = set(sampler.windows[index].control) if following and following[0] == step else set()
                assert sampler.control._pictures._reading.keys() == asked - here


def test_cache_holds_no_more_features_than_one_window_needs(controlnext, frames):
    long = np.concatenate([frames] * 4)
    cache = ControlCache(controlnext, long, keep_bytes=0)
    for window in even(len(long), 5, 1):
        cache(0, SIGMAS[0], window.control)
        assert len(cache._control) == 5
    assert not cache._kept


def test_euler_over_windows_equals_stepping_each_window_and_averaging():
    generator = torch.Generator().manual_seed(0)
    sigmas = sampling_sigmas(SVD_SCHEDULER, 3)
    windows = published(9, 4, 2)
    start = 700 * torch.randn(9, 4, 2, 2, generator=generator)
    vs = torch.randn(3, len(windows), 4, 4, 2, 2, generator=generator)
    ours = denoise(start.clone(), sigmas, windows, lambda step, index, latents: vs[step, index])
    theirs = start
    for step in range(3):
        merged = torch.zeros_like(theirs)
        for v, w in zip(vs[step], windows, strict=True):
            stepped = euler_step(theirs[list(w.frames)], v, sigmas[step], sigmas[step + 1])
            merged[list(w.frames)] += stepped * torch.tensor(w.weights).reshape(-1, 1, 1, 1)
        theirs = merged
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-3)


def test_predictions_may_come_in_any_order():
    generator = torch.Generator().manual_seed(0)
    sigmas, windows = torch.tensor([5.0, 1.0, 0.2, 0.0]), even(20, 6, 3)
    start = 5 * torch.randn(20, 4, 2, 2, generator=generator)
    vs = torch.randn(3, len(windows), 6, 4, 2, 2, generator=generator)
    in_order = denoise(start.clone(), sigmas, windows, lambda step, index, latents: vs[step, index])
    video = Denoising(start, sigmas, windows)
    while not video.done:
        step, before = video.step, video.latents.clone()
        for count, index in enumerate(torch.randperm(len(windows), generator=generator).tolist(), 1):
            assert torch.equal(video.window_latents(step, index), before[list(windows[index].frames)])
            video.take(step, index, vs[step, index])
            assert video.step == step + (count == len(windows))
        stepped = euler_step(before, blend(windows, vs[step], 20), sigmas[step], sigmas[step + 1])
        assert torch.equal(video.latents, stepped)
    assert torch.equal(video.latents, in_order) and video.latents is start


@settings(deadline=None)
@given(
    st.sampled_from([("even", 5, 1), ("published", 5, 2), ("mimicmotion", 5, 2)]),
    st.integers(4, 24),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_a_window_need_not_wait_for_the_others(how, num_frames, steps, random):
    """Ready windows in any order give the bits of their own order, at each step."""
    windows = plan(how[0], num_frames, *how[1:])
    generator = torch.Generator().manual_seed(num_frames)
    start = torch.randn(num_frames, 1, 1, 2, generator=generator)
    sigmas = torch.linspace(5, 0, steps + 1)

    def predict(step, index, latents):
        return latents.sin() * (1 + step) + index

    expected = []
    denoise(
        start.clone(), sigmas, windows, predict, on_step=lambda _, latents: expected.append(latents.clone())
    )
    video = Denoising(start.clone(), sigmas, windows)
    ready = [(0, index) for index in range(len(windows))]
    seen, first, ahead = [], [], 0
    while ready:
        step, index = ready.pop(random.randrange(len(ready)))
        first.append((step, index))
        ahead = max(ahead, step - video.step)
        before = video.step
        ready += video.take(step, index, predict(step, index, video.window_latents(step, index)))
        if video.step > before:
            seen.append(video.step_latents().clone())
    assert video.done and ahead <= 1
    assert sorted(first) == [(step, index) for step in range(steps) for index in range(len(windows))]
    for ours, theirs in zip([*seen, video.latents], [*expected, expected[-1]], strict=True):
        assert torch.equal(ours, theirs)


def test_latents_change_in_place_and_a_frame_only_after_the_last_window_that_holds_it():
    start = torch.ones(12, 4, 2, 2)
    seen = []

    def predict(step, index, latents):
        seen.append(bool((latents == 1).all()))
        return torch.ones(len(WINDOWS[index]), 4, 2, 2)

    assert denoise(start, torch.tensor([2.0, 0.0]), WINDOWS, predict) is start
    assert len(seen) == len(WINDOWS) and all(seen)
    assert (start != 1).all()


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_perfect_consistency_function_is_sampled_in_any_number_of_steps(steps):
    clean = torch.randn(9, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    sigmas, windows = consistency_sigmas(SVD_SCHEDULER, steps), even(9, 4, 1)
    seen = []

    def predict(step, index, latents):
        s = sigmas[step]
        return (latents / (s**2 + 1) - clean[list(windows[index].frames)]) * (s**2 + 1).sqrt() / s

    def noise(step, frames):
        return step_noise(step, frames, (4, 2, 2), seed=0)

    start = 700 * torch.randn(9, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    latents = denoise(
        start, sigmas, windows, predict, noise=noise, on_estimate=lambda *given: seen.append(given)
    )
    assert torch.allclose(latents, clean, atol=1e-3)
    assert {step for step, _, _ in seen} == set(range(1, steps + 1))
    for _, frames, estimate in seen:
        assert torch.allclose(estimate, clean[list(frames)], atol=1e-3)
    assert sorted(frame for step, frames, _ in seen for frame in frames if step == 1) == list(range(9))


def test_fresh_noise_is_of_seed_step_and_frame_alone():
    shape = (4, 2, 2)
    both = step_noise(1, [3, 5], shape, seed=0)
    assert torch.equal(both[1:], step_noise(1, [5], shape, seed=0))
    others = [
        step_noise(2, [5], shape, 0),
        step_noise(1, [5], shape, 1),
        initial_noise(range(5, 6), shape, 0),
    ]
    assert not any(torch.allclose(both[1:], other) for other in others)
