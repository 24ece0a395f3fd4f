"""A training of seconds, end to end: resume, checkpoints, what learns, several processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from posedance.pipeline.config_base import Config
from posedance.pipeline.train.checkpoints import checkpoints
from posedance.pipeline.train.config import TrainConfig
from posedance.pipeline.train.data import DataConfig, clip_order, make_shards, name_data
from posedance.pipeline.train.encoder import EncoderConfig
from posedance.pipeline.train.identity import identity_of
from posedance.pipeline.train.image.config import ImageTrainConfig
from posedance.pipeline.train.larger import LargerConfig
from posedance.pipeline.train.loop import run_loop
from posedance.pipeline.train.loop_config import LoopConfig
from posedance.pipeline.train.optimizer import ema_decay_at, learning_rate_at
from posedance.pipeline.train.ray import most_telling, stop_mark, train_on_ray
from posedance.pipeline.train.task import VideoTask
from posedance.pipeline.train.train import train
from posedance.pipeline.train.vae import VaeConfig
from posedance.pipeline.train.words import WordsConfig
from posedance.stages.errors import ConfigError, TrainingDivergedError
from posedance.stages.media.video import probe
from posedance.stages.mimicmotion.pose_net import PoseNet
from posedance.stages.models import load_generator, save_generator
from posedance.stages.svd.files.tiny import tiny_random

STEPS = 4


@pytest.fixture(scope="module")
def whole(base, config, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    train(config(base, output, loop={"log_every": 1}))
    return output


def test_the_result_generates(whole):
    generator = load_generator(str(whole / "model"))
    assert generator.defaults.window_size == 4
    assert generator.defaults.control_canvas == 96
    control = torch.zeros(5, 32, 32, 3, dtype=torch.uint8).numpy()
    latents = generator.denoise(control[0], control, generator.settings())
    assert latents.shape == (5, 4, 8, 8)
    assert torch.isfinite(latents).all()


def test_the_card_says_where_data_and_weights_come_from(whole, tmp_path):
    card = (whole / "model" / "README.md").read_text()
    assert "dancers drawn by `datasets/puppets/render.py`" in card
    assert "what the training started from, `vae`, `image_encoder`" in card
    assert str(whole) not in card and "None" not in card
    drawn = DataConfig(width=32, height=32, canvas=96, clips=3, frames=2)
    make_shards(drawn, tmp_path / "my-shards", 2)
    data = DataConfig(width=32, height=32, canvas=96, frames=2, shards=tmp_path / "my-shards")
    assert name_data(data) == "2 clips of `my-shards`"


def test_validation_leaves_videos_of_reference_control_truth_and_result(whole):
    shown = sorted((whole / "validation").iterdir())
    assert [path.name for path in shown] == ["clip-0-0000004.mp4", "clip-1-0000004.mp4"]
    for path in shown:
        info = probe(path)
        assert (info.width, info.height, info.num_frames) == (4 * 32, 32, 2)


def test_a_resumed_run_equals_an_uninterrupted_one(base, config, whole, tmp_path, losses):
    settings = config(base, tmp_path, loop={"log_every": 1})
    stopped = settings.loop.model_copy(update={"steps": STEPS // 2})
    train(settings.model_copy(update={"loop": stopped}))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-0000002"]
    train(settings)
    assert losses(tmp_path) == pytest.approx(losses(whole), abs=1e-6)
    last = f"checkpoint-{STEPS:07d}/ema.safetensors"
    resumed, through = load_file(tmp_path / last), load_file(whole / last)
    assert all(torch.allclose(resumed[name], through[name], atol=1e-6) for name in through)


def test_only_the_last_checkpoints_stay_and_are_whole(base, config, tmp_path):
    train(config(base, tmp_path, loop={"checkpoint_every": 1, "keep": 2}, video=False))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-0000003", "checkpoint-0000004"]
    assert not list(tmp_path.glob(".checkpoint*"))
    names = {path.name for path in checkpoints(tmp_path)[-1].iterdir()}
    assert names == {
        "unet.safetensors",
        "controlnext.safetensors",
        "ema.safetensors",
        "optimizer.safetensors",
        "state.json",
    }


def test_another_run_in_the_same_folder_is_refused(base, config, whole):
    with pytest.raises(ConfigError, match=r"loop\.weight_decay"):
        train(config(base, whole, loop={"weight_decay": 0.5, "steps": STEPS + 1}))


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(base, config, tmp_path):
    settings = config(base, tmp_path)
    train(settings.model_copy(update={"loop": settings.loop.model_copy(update={"steps": 2})}))
    task = VideoTask(settings)
    denoise_loss = task.loss

    def broken(step, micro, batch):
        loss, logs = denoise_loss(step, micro, batch)
        return (loss * float("nan") if step == 3 else loss), logs

    task.loss = broken
    with pytest.raises(TrainingDivergedError, match=r"step 3 is nan.*checkpoint-0000002"):
        run_loop(task, settings.loop, tmp_path, identity_of(settings), lambda *_: {})


def test_pictures_leave_the_temporal_layers_at_rest(base, config, tmp_path):
    settings = config(base, tmp_path, video=False)
    names = [name for name, _ in VideoTask(settings).trainable()]
    assert names and not any("temporal" in name for name in names)
    train(settings)
    states = load_file(tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    silent = [name for name in states if name.endswith("temporal_res_block.conv2.weight")]
    assert silent and all(not states[name].any() for name in silent)


@pytest.mark.parametrize(
    ("learn", "within"),
    [("none", ()), ("to_out+to_v", ("to_out", "to_v")), ("temporal", ("tempor", "time_"))],
)
def test_what_learns_is_chosen_by_name(base, config, tmp_path, learn, within):
    named = VideoTask(config(base, tmp_path, learn=learn)).trainable()
    unet = [name for name, _ in named if name.startswith("unet.")]
    assert bool(unet) == bool(within)
    assert all(any(part in name for part in within) for name in unet)
    assert sum(name.startswith("controlnext.") for name, _ in named) > 10


def test_a_run_can_go_on_from_a_model_folder(base, config, whole, tmp_path):
    settings = config(base, tmp_path)
    model = settings.model.model_copy(
        update={
            "base": whole / "model",
            "unet": None,
            "controlnext": None,
            "vae": None,
            "image_encoder": None,
        }
    )
    settings = settings.model_copy(update={"model": model})
    task = VideoTask(settings)
    loss, _ = task.loss(0, 0, next(iter(task.batches(0, 1, range(1)))))
    assert torch.isfinite(loss)
    trained = load_file(whole / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(task.parts.unet.conv_in.weight.half(), trained["conv_in.weight"])
    assert {module.num_groups for module in task.parts.unet.modules() if hasattr(module, "num_groups")} == {1}


def test_another_control_module_learns_as_controlnext_does(base, config, tmp_path):
    mimic = replace(tiny_random(), controlnext=PoseNet(control_channels=32))
    save_generator(mimic, tmp_path / "base")
    new = {"unet": None, "controlnext": None, "vae": None, "image_encoder": None}
    settings = config(base, tmp_path / "run", gradient_checkpointing=True)
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"base": tmp_path / "base", **new})}
    )
    train(settings)
    learned = load_generator(str(tmp_path / "run" / "model"), dtype=torch.float32).controlnext
    assert isinstance(learned, PoseNet)
    before, after = mimic.controlnext.state_dict(), learned.state_dict()
    still = [name for name in before if torch.equal(before[name].half().float(), after[name])]
    assert not still, f"did not learn: {still}"


def test_the_image_encoder_may_learn_along(base, config, tmp_path):
    settings = config(base, tmp_path, palette=0.5, loop={"steps": 2, "checkpoint_every": 2})
    names = {name.partition(".")[0] for name, _ in VideoTask(settings).trainable()}
    assert names == {"unet", "controlnext", "image_encoder", "reader"}
    train(settings)
    assert (checkpoints(tmp_path)[-1] / "image_encoder.safetensors").exists()


def test_a_model_without_a_source_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.base"):
        VideoTask(TrainConfig(output=tmp_path))


@pytest.mark.parametrize("wrong", [{"learning": 1}, {"batch": 0}, {"loop": {"ema": 1.5}}, {"learn": "some"}])
def test_a_config_with_a_mistake_is_refused(wrong):
    with pytest.raises(ValidationError):
        TrainConfig.model_validate(wrong)


def test_rates_rise_and_fall():
    loop = LoopConfig(steps=100, warmup=10, cooldown=20, learning_rate=1.0)
    rates = [learning_rate_at(step, loop) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)
    assert ema_decay_at(0, 0.999) < ema_decay_at(50, 0.999) < ema_decay_at(10**6, 0.999) == 0.999


def test_clips_come_shuffled_and_whole_whatever_the_start():
    order = clip_order(5, seed=1, start=0, stop=15)
    assert all(sorted(order[i : i + 5]) == list(range(5)) for i in (0, 5, 10))
    assert order[:5] != order[5:10]
    assert clip_order(5, 1, 7, 12) == order[7:12]


PROCESS = """
import sys, torch
torch.set_num_threads(1)
from posedance.pipeline.train.config import TrainConfig
from posedance.pipeline.train.train import train
train(TrainConfig.model_validate_json(open(sys.argv[1]).read()))
"""


@pytest.fixture(scope="module")
def alone(base, config, tmp_path_factory):
    """A run of one process, whose steps have two batches."""
    loop = {"accumulation": 2, "log_every": 1}
    settings = config(base, tmp_path_factory.mktemp("alone"), batch=1, loop=loop)
    train(settings)
    return settings


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_keep_their_step_at_sigterm(alone, tmp_path, losses):
    """The launcher is told to end, as a cluster does; its processes end their step together and keep it.

    They share the steps: of two that were each alone, the second would find the folder in use.
    """
    shared = with_steps(alone, 100_000).model_copy(update={"output": tmp_path / "shared"})
    (tmp_path / "config.json").write_text(shared.model_dump_json())
    (tmp_path / "run.py").write_text(PROCESS)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--main_process_port", "0"]  # a port that is free
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += [str(tmp_path / "run.py"), str(tmp_path / "config.json")]
    cpus = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}  # its --cpu starts one process
    run = subprocess.Popen(launch, cwd=tmp_path, env=cpus, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "shared" / "log.jsonl"
    try:
        while not (log.exists() and len(log.read_text().splitlines()) > STEPS):
            assert run.poll() is None, run.communicate()[1][-2000:]
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=120)
    finally:
        run.kill()
        run.wait()
    (kept,) = checkpoints(tmp_path / "shared")
    seen = losses(tmp_path / "shared")
    assert STEPS < int(kept.name[-7:]) == len(seen) < 100_000
    assert seen[:STEPS] == pytest.approx(losses(alone.output), abs=1e-5)


@pytest.mark.slow
def test_two_workers_of_ray_train_learn_what_one_process_does_and_keep_their_step_at_sigterm(
    ray_here, alone, tmp_path, losses
):
    """The driver is told to end; its workers, which no signal reaches, end the same step.

    They share the steps: of two that were each alone, the second would find the folder in use.
    """
    on_ray = with_steps(alone, 100_000).model_copy(update={"output": tmp_path / "ray"})
    log = tmp_path / "ray" / "log.jsonl"
    ended = threading.Event()

    def end_soon():
        while not ended.wait(0.05):
            if log.exists() and len(log.read_text().splitlines()) > STEPS:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watch = threading.Thread(target=end_soon)
    watch.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            train_on_ray(on_ray, 2, None)
    finally:
        ended.set()
        watch.join()
    (kept,) = checkpoints(tmp_path / "ray")
    seen = losses(tmp_path / "ray")
    assert STEPS < int(kept.name[-7:]) == len(seen) < 100_000
    assert seen[:STEPS] == pytest.approx(losses(alone.output), abs=1e-5)
    assert not stop_mark(tmp_path / "ray").exists()
    load_generator(str(train(with_steps(on_ray, len(seen)))))


def with_steps(settings, steps):
    """Settings of a longer or shorter run, which is the same one, with a checkpoint at its end alone."""
    loop = settings.loop.model_copy(update={"steps": steps, "checkpoint_every": steps})
    return settings.model_copy(update={"loop": loop})


def test_of_what_workers_raise_the_error_of_ours_is_told():
    ours, lost = ConfigError("2 processes cannot share 3 batches"), RuntimeError("connection closed by peer")
    wrapped = RuntimeError("worker 1")
    wrapped.__cause__ = ours
    assert most_telling([lost, wrapped]) is ours
    assert most_telling([lost, RuntimeError("another")]) is lost


def test_the_shipped_configs_are_valid():
    vaes = ("demo_vae", "demo_decoder", "demo_fine_vae")
    models: dict[str, type[Config]] = dict.fromkeys(vaes, VaeConfig) | {"demo_encoder": EncoderConfig}
    models |= {
        "demo_larger": LargerConfig,
        "painter": ImageTrainConfig,
        "painter_canny": ImageTrainConfig,
        "upscaler": ImageTrainConfig,
        "painter_words": WordsConfig,
    }
    files = sorted((Path(__file__).resolve().parents[3] / "configs" / "train").glob("*.yaml"))
    assert len(files) >= 4
    for file in files:
        models.get(file.stem, TrainConfig).model_validate(yaml.safe_load(file.read_text()))
