"""The graph of steps: that its rows fit together, and that no step reads what another config made."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from helpers import add_dance, add_picture
from safetensors.torch import load_file, save_file

from posedance.pipeline.animate.animate import RESULTS, animate
from posedance.pipeline.animate.checkpoint import CHECKPOINT
from posedance.pipeline.animate.graph import (
    GRAPH,
    LAST,
    STEPS,
    following,
    forget,
    run,
    step_keys,
    step_of,
    steps_of,
)
from posedance.pipeline.animate.replay import replay
from posedance.pipeline.animate.tools import Tools
from posedance.pipeline.config import AnimateConfig, PoolsConfig, StepName, write_yaml
from posedance.pipeline.job.inputs import BESIDE
from posedance.pipeline.job.job import open_job, write_text
from posedance.stages.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
WHOLE = AnimateConfig(character_prompt="a dancer", upscale=2)
"""What asks for every step."""


def test_every_step_comes_after_what_it_reads_and_writes_files_of_its_own() -> None:
    for index, step in enumerate(STEPS.values()):
        before = set(list(STEPS)[:index])
        assert set(step.reads) <= before, step.name
        assert set(step.inputs) <= set(BESIDE), step.name
        assert not step.shared or all(STEPS[read].shared for read in step.reads), step.name
    written = [name for step in GRAPH for name in (*step.writes, *step.scratch)]
    assert len(STEPS) == len(GRAPH) and len(written) == len(set(written))
    assert all(not Path(name).is_absolute() and ".." not in name for name in written)
    assert {step.pool for step in GRAPH} == set(PoolsConfig.model_fields)
    assert {step.name for step in GRAPH if not step.writes[0].startswith(".work")} == set(RESULTS)


def test_every_step_is_of_use_and_is_named_where_users_choose_one() -> None:
    assert get_args(StepName) == tuple(STEPS), "replay and --force take these"
    for step in GRAPH:
        config = WHOLE if step.asked(WHOLE) else WHOLE.model_copy(update={"model": "cutout"})
        assert LAST in {later.name for later in following(step.name, config)}
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(path.read_text() for path in documents)
    missing = [step.name for step in GRAPH if f"`{step.name}`" not in text]
    assert not missing, f"README or docs name the steps for replay and --force: {missing}"


def test_a_config_has_the_steps_that_it_asks_for_and_they_read_no_others() -> None:
    plain = ["size", "settings", "reference", "placement", "poses", "control", "latents", "result"]
    assert [step.name for step in steps_of(AnimateConfig())] == [*plain, "comparison"]
    assert step_of(AnimateConfig(), "comparison").reads == ("placement", "control", "result")
    of_a_network, cutout = ["settings", "latents"], WHOLE.model_copy(update={"model": "cutout"})
    assert [step.name for step in steps_of(WHOLE)] == [name for name in STEPS if name != "paper"]
    assert [step.name for step in steps_of(cutout)] == [name for name in STEPS if name not in of_a_network]
    with pytest.raises(ConfigError, match="step upscale is not part of this video"):
        step_of(AnimateConfig(character_prompt="a dancer"), "upscale")


def test_what_follows_from_a_step() -> None:
    def names(step: str, config: AnimateConfig = WHOLE) -> list[str]:
        return [later.name for later in following(step, config)]

    result = ["result", "upscale", "comparison"]
    assert names("placement") == ["placement", "control", "latents", *result]
    assert names("settings") == ["settings", "latents", *result]
    assert names("poses") == ["poses", "character", "reference", *names("placement")]
    assert names("comparison") == ["comparison"]
    assert names("poses", AnimateConfig()) == ["poses", "control", "latents", "result", "comparison"]
    assert names("upscale", AnimateConfig()) == []
    with pytest.raises(ConfigError, match="no step 'denoise': use one of size, settings"):
        following("denoise", WHOLE)


@pytest.fixture
def job_config(tmp_path: Path) -> AnimateConfig:
    """A small job."""
    add_dance(tmp_path, "dance", 1)
    add_picture(tmp_path, "ref", 6)
    return AnimateConfig(
        pose=tmp_path / "dance.npz",
        reference=tmp_path / "ref.png",
        model="tiny-random",
        steps=1,
        output=tmp_path / "out",
    )


def test_a_step_never_reads_what_another_config_made(job_config: AnimateConfig, tmp_path: Path) -> None:
    """Control frames of A are drawn, then B draws into the same folder, then the latents of A are made."""
    one, other = job_config, job_config.model_copy(update={"align": "none"})
    alone = one.model_copy(update={"output": tmp_path / "alone"})
    animate(alone)
    tools = Tools()
    with open_job(one.output) as job:
        for name in ("size", "settings", "reference", "poses", "control"):
            run(job, STEPS[name], one, step_keys(one), tools)
        run(job, STEPS["control"], other, step_keys(other), tools)
        assert not job.holds("control", step_keys(one)["control"])
        run(job, STEPS["latents"], one, step_keys(one), tools)
        assert job.holds("control", step_keys(one)["control"]), "it is made before"
    made, wanted = (folder / ".work/latents.safetensors" for folder in (one.output, alone.output))
    assert made.read_bytes() == wanted.read_bytes()


def test_replay_refuses_files_of_another_config(job_config: AnimateConfig) -> None:
    animate(job_config)
    latents = job_config.output / ".work/latents.safetensors"
    before = latents.read_bytes()
    write_text(job_config.output / "config.yaml", write_yaml(job_config.model_copy(update={"align": "none"})))
    with pytest.raises(ConfigError, match=r"step latents reads .*control\.zip, which is not what .*yaml"):
        replay(job_config.output, "latents")
    assert latents.read_bytes() == before


def test_a_step_can_open_only_what_it_declares(job_config: AnimateConfig) -> None:
    careless = replace(STEPS["control"], reads=("reference", "poses"))
    with open_job(job_config.output) as job, pytest.raises(KeyError, match="size"):
        run(job, careless, job_config, step_keys(job_config), Tools())


@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_counts_for_its_own_key_until_the_step_is_forgotten(
    job_config: AnimateConfig, tmp_path: Path, own: bool
) -> None:
    """A checkpoint of noise: taken as it is where the key is right, and never otherwise."""
    config = job_config.model_copy(update={"steps": 2})
    animate(config.model_copy(update={"output": tmp_path / "alone"}))
    wanted = load_file(tmp_path / "alone/.work/latents.safetensors")["latents"]
    keys, tools, step = step_keys(config), Tools(), step_of(config, "latents")
    checkpoint = tmp_path / "out" / CHECKPOINT
    facts = {"key": keys["latents"] if own else keys["result"], "step": "1"}

    def made() -> torch.Tensor:
        save_file({"latents": torch.ones_like(wanted)}, checkpoint, facts)
        run(job, step, config, keys, tools)
        return load_file(*step.files(config.output, config))["latents"]

    with open_job(config.output) as job:
        for before in step.reads:
            run(job, STEPS[before], config, keys, tools)
        assert torch.equal(made(), wanted) != own
        save_file({"latents": torch.ones_like(wanted)}, checkpoint, facts)
        forget(job, step)
        assert not checkpoint.exists() and not job.holds(step.name, keys["latents"])
        run(job, step, config, keys, tools)
        assert torch.equal(load_file(*step.files(config.output, config))["latents"], wanted)
