"""What stops a training, and what is left then: real NaNs, real kills, unreadable clips."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from posedance.pipeline.train.checkpoints import checkpoints
from posedance.pipeline.train.data import make_shards
from posedance.pipeline.train.identity import identity_of
from posedance.pipeline.train.latents import latents_folder
from posedance.pipeline.train.loop import run_loop
from posedance.pipeline.train.model import load_parts
from posedance.pipeline.train.task import VideoTask
from posedance.pipeline.train.train import train
from posedance.stages.errors import ConfigError, TrainingDivergedError

RUN = """
import os, sys
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
from posedance.pipeline.train.config import TrainConfig
from posedance.pipeline.train.train import train
train(TrainConfig.model_validate_json(open(sys.argv[1]).read()))
"""


def with_steps(settings, steps):
    return settings.model_copy(update={"loop": settings.loop.model_copy(update={"steps": steps})})


def test_nan_in_the_weights_stops_at_once(base, config, tmp_path):
    train(config(base, tmp_path / "base", loop={"steps": 1}))
    path = tmp_path / "base" / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, path)
    model = {"base": tmp_path / "base" / "model", "width": 32, "height": 32, "window": 4, "overlap": 1}
    with pytest.raises(TrainingDivergedError, match=r"loss at step 0 is nan.*there is no checkpoint yet"):
        train(config(base, tmp_path / "run", model=model))


def test_nan_in_the_data_stops_with_the_last_good_checkpoint(base, config, tmp_path):
    settings = config(base, tmp_path / "run", latents=tmp_path / "latents", batch=1, loop={"steps": 6})
    train(with_steps(settings, 2))
    for path in (tmp_path / "latents").rglob("latents-002.safetensors"):
        bad = torch.full_like(load_file(path)["latents"], float("nan"))
        save_file({"latents": bad}, path)
    with pytest.raises(TrainingDivergedError, match=r"is nan.*checkpoint-000000[24]; run the same command"):
        train(settings)
    for checkpoint in checkpoints(tmp_path / "run"):
        for weight in load_file(checkpoint / "unet.safetensors").values():
            assert torch.isfinite(weight).all()
    for path in (tmp_path / "latents").rglob("latents-002.safetensors"):
        path.unlink()
    slower = settings.model_copy(update={"loop": settings.loop.model_copy(update={"learning_rate": 1e-4})})
    train(slower)  # the advice: the same command with a lower learning rate goes on
    assert checkpoints(tmp_path / "run")[-1].name == "checkpoint-0000006"


def test_a_loss_that_explodes_stops(base, config, tmp_path):
    loop = {"learning_rate": 30.0, "steps": 60, "divergence": 20.0, "clip": 1e9}
    with pytest.raises(TrainingDivergedError, match="stopped"):
        train(config(base, tmp_path, loop=loop))


@pytest.fixture(scope="module")
def shards(base, tmp_path_factory):
    """Five clips: four to learn from, and one held out."""
    from posedance.pipeline.train.data import DataConfig

    folder = tmp_path_factory.mktemp("shards")
    data = DataConfig(width=32, height=32, canvas=96, clips=5, frames=2, cache=base[0] / "clips", workers=0)
    assert make_shards(data, folder, per_shard=2) == 0
    return folder


def test_shards_teach_what_the_puppets_in_them_do(base, config, shards, tmp_path, losses):
    drawn = config(base, tmp_path / "drawn", data={"clips": 4}, loop={"log_every": 1})
    read = config(base, tmp_path / "read", data={"shards": shards}, loop={"log_every": 1})
    train(drawn)
    train(read)
    assert losses(tmp_path / "read") == losses(tmp_path / "drawn")


def damaged(shards, folder, every):
    """A copy of the shards in which the control frames of some clips are overwritten."""
    folder.mkdir()
    for path in shards.iterdir():
        data = bytearray(path.read_bytes())
        start = 0
        while (start := data.find(b".control.png", start + 1)) > 0:
            if every or path.name.endswith("0.tar"):
                name = start - 6
                data[name + 512 : name + 530] = bytes(18)
                if not every:
                    break
        (folder / path.name).write_bytes(data)
    return folder


def test_an_unreadable_clip_is_counted_and_never_replaced(base, config, shards, tmp_path, caplog):
    folder = damaged(shards, tmp_path / "shards", every=False)
    settings = config(base, tmp_path / "run", data={"shards": folder}, loop={"log_every": 1, "steps": 4})
    train(settings)
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    counted = [entry["clips_left_out"] for entry in entries if "clips_left_out" in entry]
    assert counted[-1] == 2  # eight places in four steps, four clips, one of them bad
    lines = [json.loads(line) for line in (tmp_path / "run" / "left_out.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and "a picture is damaged" in lines[0]["reason"]
    assert caplog.text.count("goes without") == 1


def test_kept_latents_of_other_files_are_not_taken(base, config, shards, tmp_path):
    """Clips go by number: with a shard replaced, number 1 may be another dancer."""
    shutil.copytree(shards, tmp_path / "shards")
    settings = config(base, tmp_path / "run", data={"shards": tmp_path / "shards"}, latents=tmp_path / "kept")
    parts = load_parts(settings.model)
    before = latents_folder(settings, parts)
    assert latents_folder(settings, parts) == before
    first, second, _ = sorted((tmp_path / "shards").iterdir())
    first.write_bytes(second.read_bytes())
    assert latents_folder(settings, parts) != before


def test_data_that_cannot_be_read_at_all_stops(base, config, shards, tmp_path):
    folder = damaged(shards, tmp_path / "shards", every=True)
    with pytest.raises(ConfigError, match=r"2 of 2 clips could not be read.*left_out\.jsonl"):
        train(config(base, tmp_path / "run", data={"shards": folder}))


def test_shards_are_not_written_over(shards, base):
    from posedance.pipeline.train.data import DataConfig

    with pytest.raises(ConfigError, match="holds shards already"):
        make_shards(DataConfig(clips=1), shards, 1)


def interrupted(task, times):
    """A task that gets `times` real Ctrl-C in its second step."""
    whole = task.loss

    def loss(step, micro, batch):
        for _ in range(times if step == 1 else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return whole(step, micro, batch)

    task.loss = loss
    return task


def test_ctrl_c_ends_the_step_and_keeps_it_and_a_second_one_does_not(base, config, tmp_path, losses):
    whole = config(base, tmp_path / "whole", loop={"log_every": 1})
    train(whole)
    stopped = whole.model_copy(update={"output": tmp_path / "stopped"})
    loop, identity = whole.loop.model_copy(update={"checkpoint_every": 100}), identity_of(stopped)
    with pytest.raises(KeyboardInterrupt):
        run_loop(interrupted(VideoTask(stopped), 2), loop, stopped.output, identity, lambda *_: {})
    assert not checkpoints(stopped.output)
    with pytest.raises(KeyboardInterrupt):
        run_loop(interrupted(VideoTask(stopped), 1), loop, stopped.output, identity, lambda *_: {})
    assert [path.name for path in checkpoints(stopped.output)] == ["checkpoint-0000002"]
    train(stopped)
    assert losses(stopped.output)[-3:] == pytest.approx(losses(whole.output)[-3:], abs=1e-6)


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_the_last_one(base, config, tmp_path, losses):
    """Killed with a half-written checkpoint on the disk, the same command goes on to the same losses."""
    loop = {"steps": 5, "checkpoint_every": 1, "log_every": 1}
    settings = config(base, tmp_path / "killed", loop=loop)
    (tmp_path / "config.json").write_text(settings.model_dump_json())
    (tmp_path / "run.py").write_text(RUN)
    run = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), str(tmp_path / "config.json")])
    try:
        partial = tmp_path / "killed" / ".checkpoint-0000003.posedance.partial"
        while not (partial.exists() and any(partial.iterdir())):
            assert run.poll() is None, "the run ended before it was killed"
            time.sleep(0.0005)
        os.kill(run.pid, signal.SIGKILL)
    finally:
        run.kill()
        run.wait()
    assert partial.exists(), "it was not killed while it wrote"
    assert not (tmp_path / "killed" / "checkpoint-0000003").exists()
    train(settings)
    assert not partial.exists()
    whole = settings.model_copy(update={"output": tmp_path / "whole"})
    train(whole)
    resumed = json.loads((tmp_path / "killed" / "log.jsonl").read_text().splitlines()[-2])
    assert resumed["step"] == 5
    assert losses(tmp_path / "killed")[-3:] == pytest.approx(losses(tmp_path / "whole")[-3:], abs=1e-6)


@pytest.mark.slow
def test_12_steps_with_stops_equal_12_without(base, config, tmp_path, losses):
    loop = {"steps": 12, "log_every": 1, "checkpoint_every": 3, "cooldown": 3}
    whole = config(base, tmp_path / "whole", batch=1, cache_latents=True, loop=loop)
    train(whole)
    stopped = whole.model_copy(update={"output": tmp_path / "stopped"})
    for stop in (3, 7, 12):
        part = stopped.loop.model_copy(update={"steps": stop, "cooldown": max(0, stop - 9)})
        train(stopped.model_copy(update={"loop": part}))
    assert losses(tmp_path / "stopped") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)
    last = "checkpoint-0000012/ema.safetensors"
    resumed, through = load_file(tmp_path / "stopped" / last), load_file(tmp_path / "whole" / last)
    assert all(torch.allclose(resumed[name], through[name], atol=1e-6) for name in through)


def test_a_validation_that_fails_leaves_its_step_and_is_made_up_for(base, config, tmp_path):
    settings = config(base, tmp_path, loop={"validate_every": 2, "checkpoint_every": 2})
    task, seen = VideoTask(settings), []

    def fails(step, log):
        raise ConfigError("no held-out clips")

    def figures(step, log):
        seen.append(step)
        return {"validation_psnr": 1.0}

    with pytest.raises(ConfigError, match="no held-out clips"):
        run_loop(task, settings.loop, tmp_path, {}, fails)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-0000002"]
    run_loop(VideoTask(settings), settings.loop, tmp_path, {}, figures)
    run_loop(VideoTask(settings), settings.loop, tmp_path, {}, figures)
    assert seen == [2, 4]
