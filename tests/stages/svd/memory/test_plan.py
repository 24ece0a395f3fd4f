"""The memory plan: at full size on the meta device, and what happens when memory runs out all the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from posedance.pipeline.evaluate.bench.svd import full_generator
from posedance.stages.errors import DeviceMemoryError
from posedance.stages.models import load_generator
from posedance.stages.svd.decode import decode
from posedance.stages.svd.memory import plan as memory
from posedance.stages.svd.memory.footprint import decoder_bytes, live_bytes, unet_bytes
from posedance.stages.svd.memory.plan import PIECES, free_bytes

GIB = 1 << 30


@pytest.fixture(scope="module")
def full():
    """SVD-XT 1.1 without data, meant for a GPU that is not there."""
    generator = full_generator("meta")
    generator.device = torch.device("cuda")
    return generator


@pytest.fixture
def tiny():
    return load_generator("tiny-random")


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)


def same(a, b):
    """Up to rounding, of which the first steps make more than the last."""
    return (a - b).abs().max() <= 1e-4 * b.abs().max()


def planned(full, gib, num_frames=301, **changes):
    full.memory_limit = int(gib * GIB)
    return full.plan_memory(num_frames, 576, 1024, replace(full.settings(), **changes))


def test_live_bytes_are_those_alive_together():
    def run():
        a = torch.empty(1000, device="meta")  # 4000 bytes
        b = a + 1
        del a
        c = b + 1  # two at a time
        return c[:500] + 1  # the slice is no memory, its sum is half

    assert live_bytes(run) == 2 * 4000 + 2000


def test_weights_are_not_counted_nor_what_looks_at_them_in_another_shape():
    weight, inputs = torch.empty(500, 100, device="meta"), (10, 100)
    assert live_bytes(lambda: torch.empty(inputs, device="meta") @ weight.t()) == 4 * (1000 + 5000)


def test_a_card_of_12_gb_makes_300_frames_and_no_more_are_dearer(full):
    plan = planned(full, 11.0)  # 12 GB are 11.2 GiB, and the driver takes some
    assert plan.fits and plan.decode_chunk >= 4
    assert not plan.offload and planned(full, 8).offload
    long = planned(full, 11.0, num_frames=54_001)  # an hour at 15 frames a second
    kept = {"peak": 0, "keep_control_bytes": 0, "keep_frame_bytes": 0}
    assert replace(long, **kept) == replace(plan, **kept)
    assert long.keep_frame_bytes == full.keep_frame_bytes
    assert long.peak <= 11 * GIB


def test_more_memory_is_used_for_speed(full):
    plan = planned(full, 79)
    assert not plan.offload and plan.piece == PIECES[0]
    assert (plan.control_chunk, plan.decode_chunk) == (8, 8)
    assert plan.weights == pytest.approx(4.5e9, rel=0.02)
    peaks = [planned(full, gib).peak / GIB for gib in (79, 16, 11, 9)]
    assert peaks == sorted(peaks, reverse=True)


def test_what_is_kept_between_steps_counts(full):
    settings = {"cache_interval": 2, "decode_chunk": 1}
    lean = replace(full, keep_control_bytes=0, keep_deep_bytes=0)
    lean.device = full.device
    bare = planned(lean, 79, **settings)
    for name in ("keep_control_bytes", "keep_deep_bytes"):
        some = replace(lean, **{name: GIB})
        some.device = full.device
        plan = planned(some, 79, **settings)
        assert getattr(plan, name) > 0.9 * GIB
        assert plan.peak == bare.peak + getattr(plan, name)


def test_control_frames_stay_in_the_memory_of_the_machine(tiny):
    """So they count on a CPU, and stay there only where there is room."""
    settings = replace(tiny.settings(), decode_chunk=1)
    plan = tiny.plan_memory(100, 64, 64, settings)
    assert plan.keep_frame_bytes == 100 * 64 * 64 * 3
    tiny.memory_limit = plan.peak - 1000
    assert tiny.plan_memory(100, 64, 64, settings).keep_frame_bytes == plan.keep_frame_bytes - 1000
    tiny.keep_frame_bytes = 0
    assert tiny.plan_memory(100, 64, 64, settings).peak == plan.peak - plan.keep_frame_bytes


BUDGETS = (6, 6.5, 7, 8, 9, 9.5, 10, 10.25, 10.5, 10.75, 11, 11.25, 11.5, 12, 13, 14, 15, 16, 17, 18, 24, 80)
"""GiB."""


@pytest.fixture(scope="module")
def plans(full):
    """Of each budget in which a video fits, by the order of work; none is refused above one that does."""
    found = {"fast": [], "published": []}
    for schedule, fitting in found.items():
        for gib in BUDGETS:
            try:
                fitting.append(planned(full, gib, schedule=schedule))
            except DeviceMemoryError:
                assert not fitting
    return found


@pytest.mark.parametrize("schedule", ["fast", "published"])
def test_more_memory_never_decodes_fewer_frames_together(plans, schedule):
    """How many they are changes the pictures a little."""
    for plan in plans[schedule]:
        assert plan.peak + plan.reserve <= plan.budget and plan.reserve > 0.07 * plan.budget
    chunks = [plan.decode_chunk for plan in plans[schedule]]
    assert chunks == sorted(chunks) and chunks[-1] == 8
    ways = [(plan.offload, plan.offload_decoding) for plan in plans[schedule]]
    assert ways == sorted(ways, reverse=True), "more memory, less moved"
    assert set(ways) == {(True, True), (False, True), (False, False)}


def test_frames_decoded_together_hang_on_the_budget_alone(plans):
    fast, published = plans["fast"], plans["published"]
    assert 3 < len(published) < len(fast)
    assert [p.decode_chunk for p in fast[-len(published) :]] == [p.decode_chunk for p in published]


def test_the_published_order_of_work_is_counted_as_it_runs(full):
    """Both halves of guidance in one call, control for both, and no lever."""
    plan = planned(full, 16, schedule="published")
    assert (plan.control_chunk, plan.keep_control_bytes, plan.piece) == (48, 0, PIECES[0])
    half = planned(full, 16, schedule="published", guidance_scale=1.0)
    assert half.control_chunk == 24 and plan.peak - half.peak > 3 * GIB
    with pytest.raises(DeviceMemoryError, match=r"needs about 14\.\d+ GiB"):
        planned(full, 12, schedule="published")


def test_a_picture_that_cannot_be_encoded_is_refused(full, monkeypatch):
    monkeypatch.setattr(memory, "encoder_bytes", lambda *_: 79 * GIB)
    with pytest.raises(DeviceMemoryError, match="needs about"):
        planned(full, 79)


def test_too_little_is_refused_before_anything_starts(full):
    with pytest.raises(DeviceMemoryError, match=r"--window\.size .*--width.*--memory-limit") as error:
        planned(full, 5)
    assert "\n" not in str(error.value)
    planned(full, 6.5, window_size=8)


@pytest.mark.parametrize(
    ("limit", "free"), [("4000", 1500), ("2000", 0), ("max", None)], ids=["enough", "none", "unlimited"]
)
def test_files_that_a_container_has_read_do_not_count_as_used(tmp_path, monkeypatch, limit, free):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("3500\n")
    (tmp_path / "memory.stat").write_text("anon 2400\nactive_file 100\ninactive_file 1000\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    found = free_bytes(torch.device("cpu"))
    assert found == free if free is not None else found > 10_000


def test_counts_are_what_torch_holds(tiny):
    """The counted bytes are those of the same call on the CPU, where attention has a fused kernel too."""
    inputs = torch.zeros(2, 8, 8, 16, 16), torch.zeros(()), torch.zeros(2, 1, 32), torch.zeros(2, 3)
    real = live_bytes(lambda: tiny.unet(*inputs))
    assert unet_bytes(tiny.unet, 2, 8, 16, 16) == pytest.approx(real, rel=0.1)
    latents = torch.zeros(4, 4, 8, 8)
    real = live_bytes(lambda: tiny.vae.decode(latents, num_frames=4))
    assert decoder_bytes(tiny.vae, 4, 8, 8) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_kept_deep_features_are_counted(tiny, frames, scale):
    settings = replace(tiny.settings(), cache_interval=2, guidance_scale=scale)
    with tiny.sampler(frames[0], frames, settings) as sampler:
        for index, window in enumerate(sampler.windows):
            sampler.predict(0, index, torch.zeros(len(window), 4, 8, 8))
        assert sampler.cache.kept_bytes == tiny.plan_memory(20, 64, 64, settings).keep_deep_bytes > 0


def test_smaller_pieces_make_the_same_video(tiny, frames):
    frames = np.concatenate([frames, frames[:16]])  # a window takes more than the decoder's one frame
    settings = replace(tiny.settings(), window_size=32, window_overlap=2, decode_chunk=1)
    whole = tiny.denoise(frames[0], frames, settings)
    plan = tiny.plan_memory(36, 64, 64, settings)
    plans = [plan]
    for limit in range(plan.peak, plan.weights, -(plan.peak - plan.weights) // 40):
        tiny.memory_limit = limit
        try:
            plans.append(tiny.plan_memory(36, 64, 64, settings))
        except DeviceMemoryError:
            break
    assert list(dict.fromkeys(p.piece for p in plans)) == list(PIECES)
    assert all(p.peak <= p.budget for p in plans)
    tiny.memory_limit = plans[-1].budget
    assert plans[-1].keep_control_bytes < plan.keep_control_bytes
    lean = tiny.denoise(frames[0], frames, settings)
    assert same(lean, whole)
    assert torch.equal(tiny.denoise(frames[0], frames, settings), lean)


class OutOfMemory:
    """A hook that runs out of memory while `limit` frames or more go through a module, so many times."""

    def __init__(self, module, limit, times):
        self.limit, self.left, self.sizes = limit, times, []
        self.handle = module.register_forward_hook(self)

    def __call__(self, module, args, output):
        self.sizes.append(len(args[0]))
        if len(args[0]) >= self.limit and self.left:
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_running_out_of_memory_is_caught_once_and_retried_in_smaller_pieces(tiny, frames, caplog):
    settings = replace(tiny.settings(), steps=1)
    whole = tiny.denoise(frames[0], frames, settings)
    fault = OutOfMemory(tiny.unet.conv_out, limit=8, times=1)
    with tiny.sampler(frames[0], frames, settings) as sampler:
        sampler.predict(0, 0, torch.zeros(8, 4, 8, 8))
        assert sampler.feed_forward.parts == 4 and sampler.control.keep_bytes == 0
    assert fault.sizes == [8, 8, 8], "one call failed, was made again, and the other half after it"
    fault.left = 1
    caplog.clear()
    latents = tiny.denoise(frames[0], frames, settings)
    fault.handle.remove()
    assert same(latents, whole)
    assert len(caplog.messages) == 1 and "smaller pieces" in caplog.messages[0]


def test_running_out_of_memory_again_ends_in_a_line_that_names_the_option(tiny, frames):
    fault = OutOfMemory(tiny.unet.conv_out, limit=8, times=9)
    with pytest.raises(DeviceMemoryError, match=r"window of 8 frames.*--window\.size") as error:
        tiny.denoise(frames[0], frames, tiny.settings())
    assert fault.left == 7
    assert "\n" not in str(error.value)
    assert isinstance(error.value.__cause__, torch.OutOfMemoryError)


def test_the_decoder_goes_on_with_half_the_chunk(tiny, caplog):
    latents = torch.randn(22, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = torch.stack(list(decode(tiny.vae, latents, 8, 2)))
    halves = torch.stack(list(decode(tiny.vae, latents, 4, 2)))
    # random weights mix frames more than trained ones; the pixels of the video have a deviation of 0.23
    assert (whole - halves).abs().mean() < 0.06
    fault = OutOfMemory(tiny.vae.decoder.conv_in, limit=8, times=1)
    assert torch.equal(torch.stack(list(decode(tiny.vae, latents, 8, 2))), halves)
    assert set(fault.sizes[1:]) == {4} and "4 at a time" in caplog.messages[0]

    fault.limit, fault.left = 99, 1
    frames = []
    for frame in decode(tiny.vae, latents, 8, 2):
        frames.append(frame)
        fault.limit = 8  # from the second chunk on
    assert torch.equal(torch.stack(frames[:4]), whole[:4])
    rest = torch.stack(list(decode(tiny.vae, latents[2:], 4, 2)))
    assert torch.equal(torch.stack(frames[4:]), rest[2:]), "the two frames before help"

    fault.limit, fault.left = 1, 9
    with pytest.raises(DeviceMemoryError, match="decoding 4 frames"):
        list(decode(tiny.vae, latents, 8, 2))


def test_networks_that_are_not_at_work_wait_on_the_cpu(tiny, frames, monkeypatch):
    """cpu:0 stands for a GPU: `to` tells it from the CPU, and computes all the same."""
    tiny.device = torch.device("cpu", 0)
    names = {id(module): name for name, module in tiny.named_networks().items()}
    where, at_work = {}, []
    real = torch.nn.Module.to

    def to(module, *args, **kwargs):
        if id(module) in names and "device" in kwargs:
            where[names[id(module)]] = str(kwargs["device"])
        return real(module, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    plan = tiny.plan_memory
    offload = True

    def planned(self, *args):
        return replace(plan(*args), offload=offload, offload_decoding=True)

    monkeypatch.setattr(type(tiny), "plan_memory", planned)
    for name, module in tiny.named_networks().items():
        inner = module.encoder if name == "vae" else module
        inner.register_forward_pre_hook(lambda *_, name=name: at_work.append((name, dict(where))))
    latents = tiny.denoise(frames[0], frames[:9], replace(tiny.settings(), steps=1))
    for name, places in at_work:
        others = {"image_encoder": ("unet",), "vae": ("unet",), "unet": ("vae", "image_encoder")}.get(
            name, ()
        )
        assert places[name] == "cpu:0"
        assert all(places[other] == "cpu" for other in others)
    assert {name for name, _ in at_work} >= {"unet", "image_encoder"}

    def there():
        return [name for name, place in where.items() if place == "cpu:0"]

    list(tiny.decode(latents, tiny.settings()))
    assert there() == ["vae"]
    offload = False
    tiny.denoise(frames[0], frames[:9], replace(tiny.settings(), steps=1))
    assert set(there()) == set(names.values())
    list(tiny.decode(latents, tiny.settings()))
    assert there() == ["vae"], "the decoder alone is short of memory"
