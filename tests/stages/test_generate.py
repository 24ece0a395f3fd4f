"""The contract of every generator, run over the table and over a saved folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from posedance.stages.errors import ConfigError, DeviceMemoryError, WeightsError
from posedance.stages.generate import Checkpoint, Settings, check_size, nearest_multiple
from posedance.stages.models import GENERATORS, load_decoder, load_generator, save_generator, why_unusable


@pytest.fixture(scope="module")
def tiny():
    return load_generator("tiny-random")


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_generator(tiny, folder)
    return folder


@pytest.fixture(scope="module")
def mimicmotion_files(tiny, folder, tmp_path_factory):
    """A base folder and a weight file of MimicMotion's layout, with small random networks."""
    from posedance.stages.mimicmotion.pose_net import PoseNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {"unet": tiny.unet, "pose_net": PoseNet(control_channels=32)}
    state = {f"{part}.{key}": value for part, net in parts.items() for key, value in net.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "MimicMotion_1-1.pth"
    torch.save(state, path)
    return {"base": str(folder), "mimicmotion": path}


@pytest.fixture(params=[*GENERATORS, "folder", "mimicmotion, small"])
def generator(request):
    if request.param == "folder":
        return load_generator(str(request.getfixturevalue("folder")))
    if request.param == "mimicmotion, small":
        return load_generator("mimicmotion", **request.getfixturevalue("mimicmotion_files"))
    if reason := why_unusable(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return load_generator(request.param)


def job(generator, num_frames=6, seed=0):
    """A reference image and control frames of the smallest size."""
    side = generator.size_multiple * 2
    pixels = np.random.default_rng(seed).integers(0, 256, (num_frames + 1, side, side, 3), np.uint8)
    return pixels[0], pixels[1:]


def quick(generator, **changes):
    return replace(generator.settings(), steps=2, window_size=4, window_overlap=1, **changes)


def test_contract_gives_one_frame_for_each_frame_of_the_driver(generator):
    reference, control = job(generator)
    settings = quick(generator)
    latents = generator.denoise(reference, control, settings)
    frames = list(generator.decode(latents, settings))
    assert len(latents) == 6
    assert len(frames) == 5
    assert all(frame.dtype == np.uint8 and frame.shape == reference.shape for frame in frames)


def test_contract_the_decoder_alone_makes_the_same_frames(generator, request):
    source = {"base": str(request.getfixturevalue("folder"))} if generator.name == "mimicmotion" else {}
    name = str(request.getfixturevalue("folder")) if generator.name not in GENERATORS else generator.name
    alone = load_decoder(name, **source)
    _, control = job(generator)
    side = control.shape[1]
    settings = quick(generator)
    latents = generator.initial_latents(len(control), side, side, settings)
    whole, apart = (list(decode(latents, settings)) for decode in (generator.decode, alone.decode))
    assert len(whole) == len(apart) == 5
    assert all(np.array_equal(a, b) for a, b in zip(whole, apart, strict=True))


def test_a_decoder_that_cannot_be_loaded_says_so():
    with pytest.raises(WeightsError, match=r"svd-xt-1.1 needs weights .* --weights.base"):
        load_decoder("svd-xt-1.1")
    with pytest.raises(ConfigError, match="no model 'nothing'"):
        load_decoder("nothing")
    small = load_decoder("tiny-random", memory_limit=1)
    settings = Settings(steps=1, guidance_scale=1, window_size=2, window_overlap=1)
    with pytest.raises(DeviceMemoryError, match=r"decoder of tiny-random .* --memory-limit"):
        next(small.decode(torch.zeros(3, 4, 8, 8), settings))


def test_contract_defaults_are_usable(generator):
    check_size(generator, generator.defaults.width, generator.defaults.height)
    assert generator.settings().window_overlap < generator.settings().window_size


def test_contract_repeats_itself_and_follows_seed_reference_and_pose(generator):
    reference, control = job(generator)
    settings = quick(generator)

    def run(reference=reference, control=control, **changes):
        return generator.denoise(reference, control, replace(settings, **changes))

    first = run()
    assert torch.equal(run(), first)
    assert not torch.equal(run(seed=1), first)
    assert not torch.equal(run(reference=255 - reference), first)
    assert not torch.equal(run(control=255 - control), first)


@pytest.mark.parametrize("changes", [{}, {"consistency": True}], ids=["Euler", "consistency"])
def test_contract_resumes_exactly(generator, changes):
    reference, control = job(generator)
    settings = quick(generator, **changes)
    kept = []

    def stop_after_one(step, latents):
        kept.append(Checkpoint(step, latents.clone()))

    whole = generator.denoise(reference, control, settings, on_step=stop_after_one)
    assert [checkpoint.step for checkpoint in kept] == [1, 2]
    assert torch.equal(generator.denoise(reference, control, settings, resume=kept[0]), whole)


def test_contract_reports_every_window_of_every_step(generator):
    reference, control = job(generator)
    seen = []
    generator.denoise(reference, control, quick(generator), on_window=lambda *place: seen.append(place))
    windows = len(seen) // 2
    assert seen == [(step, window) for step in range(2) for window in range(windows)]


def test_contract_leaves_the_networks_untouched(generator):
    reference, control = job(generator)
    with pytest.raises(KeyboardInterrupt):
        generator.denoise(reference, control, quick(generator), on_window=interrupt)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in generator.unet.modules())
    assert not any("forward" in module.__dict__ for module in generator.unet.modules())


def interrupt(step, window):
    raise KeyboardInterrupt


@pytest.mark.parametrize("plan", ["even", "published", "mimicmotion"])
def test_contract_fast_and_published_order_of_work_agree(generator, plan):
    reference, control = job(generator)
    settings = quick(generator, window_plan=plan)
    fast = generator.denoise(reference, control, settings)
    published = generator.denoise(reference, control, replace(settings, schedule="published"))
    assert ((fast - published).abs().max() / published.abs().max()).item() < 1e-3


def test_contract_refuses_sizes_with_the_nearest(generator):
    side = generator.size_multiple
    with pytest.raises(ConfigError, match=f"nearest is --width {side} --height {2 * side}"):
        check_size(generator, side + 1, 2 * side - 1)
    reference, control = job(generator)
    with pytest.raises(ConfigError, match="multiples"):
        generator.denoise(reference, control[:, 1:], quick(generator))


def test_guidance_and_plan_change_the_result(tiny):
    reference, control = job(tiny)
    latents = [
        tiny.denoise(reference, control, quick(tiny, **changes))
        for changes in (
            {},
            {"guidance_scale": 1.0},
            {"min_guidance_scale": 1.0},
            {"window_plan": "published"},
        )
    ]
    for i, a in enumerate(latents):
        assert not any(torch.allclose(a, b, atol=1e-3) for b in latents[i + 1 :])


def test_any_split_over_workers_gives_the_same_bits(tiny):
    from posedance.stages.svd.denoising import denoise

    reference, control = job(tiny, num_frames=9)
    settings = quick(tiny)
    alone = tiny.denoise(reference, control, settings)
    for workers in (2, 3):
        others = [load_generator("tiny-random") for _ in range(workers)]
        samplers = [other.sampler(reference, control, settings) for other in others]
        opened = [sampler.__enter__() for sampler in samplers]
        windows = opened[0].windows

        def predict(step, index, latents, opened=opened):
            return opened[index % len(opened)].predict(step, index, latents)

        start = tiny.initial_latents(9, *control.shape[2:0:-1], settings)
        assert torch.equal(denoise(start, tiny.sigmas(settings), windows, predict), alone)


def test_a_video_needs_a_driver(tiny):
    reference, control = job(tiny, num_frames=1)
    with pytest.raises(ConfigError, match="1 control frames"):
        tiny.denoise(reference, control, quick(tiny))


@pytest.mark.parametrize(("value", "nearest"), [(1, 64), (95, 64), (96, 128), (576, 576), (600, 576)])
def test_nearest_multiple(value, nearest):
    assert nearest_multiple(value, 64) == nearest


def test_tiny_random_is_the_same_every_time(tiny):
    again = load_generator("tiny-random")
    for key, value in tiny.unet.state_dict().items():
        assert torch.equal(again.unet.state_dict()[key], value)


def test_folder_keeps_weights_and_record(tiny, folder):
    loaded = load_generator(str(folder))
    reference, control = job(tiny)
    assert torch.equal(
        loaded.denoise(reference, control, quick(loaded)), tiny.denoise(reference, control, quick(tiny))
    )
    assert (loaded.defaults, loaded.numbers) == (tiny.defaults, tiny.numbers)
    assert not list(folder.rglob("*.bin"))


def test_folder_keeps_the_groups_of_the_norms(tmp_path):
    from posedance.stages.svd.files.norms import norm_groups, set_norm_groups

    generator = load_generator("tiny-random")
    set_norm_groups(generator.unet, 8)
    set_norm_groups(generator.vae, 1)
    save_generator(generator, tmp_path)
    loaded = load_generator(str(tmp_path))
    assert (norm_groups(loaded.unet), norm_groups(loaded.vae)) == (8, 1)
    reference, control = job(generator)
    expected = generator.denoise(reference, control, quick(generator))
    assert torch.equal(loaded.denoise(reference, control, quick(loaded)), expected)


def test_mixed_groups_are_not_saved(tmp_path):
    generator = load_generator("tiny-random")
    generator.unet.conv_norm_out.num_groups = 1
    with pytest.raises(WeightsError, match="different numbers of groups"):
        save_generator(generator, tmp_path)


def test_damaged_folder_lists_what_is_wrong(tiny, tmp_path):
    save_generator(tiny, tmp_path)
    path = tmp_path / "controlnext/diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["extra"] = state.pop("embedding.0.bias")
    state["mid_convs.1.bias"] = torch.zeros(3)
    save_file(state, path)
    with pytest.raises(WeightsError) as caught:
        load_generator(str(tmp_path))
    message = str(caught.value)
    for part in (
        "1 missing: embedding.0.bias",
        "1 unexpected: extra",
        "mid_convs.1.bias [3] instead of [32]",
    ):
        assert part in message


@pytest.mark.parametrize(
    "change",
    [
        lambda record: [],
        lambda record: record | {"format": 2},
        lambda record: {"format": 1},
        lambda record: record | {"numbers": None},
        lambda record: record | {"defaults": record["defaults"] | {"colour": 1}},
        lambda record: record | {"norm_groups": {"unet": "many"}},
        lambda record: record | {"norm_groups": [8]},
    ],
)
def test_a_damaged_record_is_one_clear_line(tiny, tmp_path, change):
    save_generator(tiny, tmp_path)
    path = tmp_path / "posedance.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(WeightsError, match=r"posedance\.json") as caught:
        load_generator(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_torn_weights_are_one_clear_line(tiny, tmp_path):
    save_generator(tiny, tmp_path)
    path = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="no readable weight file"):
        load_generator(str(tmp_path))


def test_unknown_names_and_missing_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"tiny-random, demo, svd-xt-1\.1"):
        load_generator("sdxl")
    with pytest.raises(WeightsError, match=r"posedance.json is missing"):
        load_generator(str(tmp_path))
    with pytest.raises(WeightsError, match=r"--weights.controlnext and --weights.unet"):
        load_generator("svd-xt-1.1", base=tmp_path)
    with pytest.raises(ConfigError, match=r"unet belongs to the model svd-xt-1\.1"):
        load_generator("tiny-random", unet=tmp_path / "unet.bin")


def test_unusable_generators_say_why():
    assert why_unusable("tiny-random") == ""
    assert "--weights.base" in why_unusable("svd-xt-1.1")
