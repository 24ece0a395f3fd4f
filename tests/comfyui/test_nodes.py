"""The ComfyUI nodes: ComfyUI takes and runs the example's graph, and nodes join with those of others."""

import ast
import json
import sys
import tomllib
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy_stub
import numpy as np
import pytest
import torch
from comfy_stub import PACK, Comfy, as_api, execute, faults, load_pack
from helpers import add_picture

import posedance.pipeline
import posedance.stages
from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.video import probe
from posedance.stages.pose.files import openpose_frames, poses_of_layout
from posedance.stages.types import PoseSequence

EXAMPLES = PACK / "example_workflows"


@pytest.fixture
def comfy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comfy:
    """ComfyUI with empty folders."""
    made = Comfy(tmp_path)
    for name, module in made.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def pack(comfy: Comfy) -> ModuleType:
    return load_pack()


@pytest.fixture
def nodes(comfy: Comfy, pack: ModuleType) -> dict[str, Any]:
    return {**pack.NODE_CLASS_MAPPINGS, "LoadImage": comfy.load_image()}


def example(name: str = "animate_api.json") -> dict[str, Any]:
    return json.loads((EXAMPLES / name).read_text())


def add_inputs(comfy: Comfy) -> None:
    folder, motion = comfy.root / "input", make_motion(2, Fraction(16))
    with VideoWriter(folder / "dance.mp4", 144, 256, Fraction(16), preset="veryfast") as writer:
        for frame in range(8):
            writer.write(render(make_character(5), motion, frame, 144, 256).image)
    add_picture(folder, "character", 6)


def test_every_node_says_what_comfyui_asks_for(nodes: dict[str, Any], pack: ModuleType) -> None:
    titles = [pack.NODE_DISPLAY_NAME_MAPPINGS[name] for name in pack.NODE_CLASS_MAPPINGS]
    assert titles == [
        f"PoseDance {name}"
        for name in (
            "Load Driving",
            "Estimate Pose",
            "Fit Pose",
            "Draw Control",
            "Animate",
            "Animatic",
            "Save",
        )
    ]
    for node in pack.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(node, node.FUNCTION)) and node.CATEGORY == "PoseDance"
        assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
        assert comfy_stub.inputs_of(node)


def test_the_page_and_the_api_have_one_example(nodes: dict[str, Any], comfy: Comfy) -> None:
    workflow, graph = example("animate.json"), example()
    sent = as_api(workflow, nodes)
    for number, entry in sent.items():
        wanted = graph[number]
        assert entry["class_type"] == wanted["class_type"]
        assert {name: entry["inputs"][name] for name in wanted["inputs"]} == wanted["inputs"]
    outputs = {entry["id"]: entry["outputs"] for entry in workflow["nodes"]}
    inputs = {entry["id"]: entry["inputs"] for entry in workflow["nodes"]}
    for link, source, slot, target, place, kind in workflow["links"]:
        assert outputs[source][slot]["type"] == inputs[target][place]["type"] == kind
        assert link in outputs[source][slot]["links"] and inputs[target][place]["link"] == link


def test_the_example_runs(comfy: Comfy, nodes: dict[str, Any]) -> None:
    graph = example()
    assert "there is no video dance.mp4" in " ".join(faults(graph, nodes))
    add_inputs(comfy)
    assert faults(graph, nodes) == []
    graph["5"]["inputs"] |= {"width": 64, "height": 96}
    graph["7"]["inputs"] |= {"model": "tiny-random", "steps": 2, "window": 3, "overlap": 1}
    assert faults(graph, nodes) == []
    results, shown = execute(graph, nodes)
    for number, entry in graph.items():
        for kind, value in zip(nodes[entry["class_type"]].RETURN_TYPES, results[number], strict=True):
            check_shape(kind, value)
    frames, sound, fps, count = results["1"]
    assert frames.shape == (4, 256, 144, 3) and sound is None and (fps, count) == (8.0, 4)
    assert results["6"][0].shape == (5, 96, 64, 3) and results["7"][0].shape == (4, 96, 64, 3)
    assert results["5"][2].shape == (1, 96, 64, 3) and len(results["5"][0]) == 4
    for number in ("9", "10"):
        (image,) = shown[number]["images"]
        info = probe(comfy.root / "output" / image["filename"])
        assert (info.width, info.height, info.fps, info.num_frames) == (64, 96, 8, 4)
    assert results["9"][0] != results["10"][0]
    assert (2 + 4, 2 + 4) in comfy.progress


def check_shape(kind: str, value: Any) -> None:
    if kind == "IMAGE":
        assert value.dtype == torch.float32 and value.ndim == 4 and value.shape[-1] == 3
        assert value.min() >= 0 and value.max() <= 1
    elif kind == "POSE_KEYPOINT":
        assert isinstance(value, list)
        assert {"people", "canvas_width", "canvas_height"} <= set(value[0])
        json.dumps(value)
    elif kind in ("FLOAT", "INT", "STRING"):
        assert type(value) is {"FLOAT": float, "INT": int, "STRING": str}[kind]


def test_links_of_other_types_are_refused(comfy: Comfy, nodes: dict[str, Any]) -> None:
    add_inputs(comfy)
    graph = example()
    graph["7"]["inputs"]["control"] = ["5", 0]
    graph["9"]["inputs"]["fps"] = 0.0
    del graph["8"]["inputs"]["pose"]
    assert faults(graph, nodes) == [
        "7: control is POSE_KEYPOINT, not IMAGE",
        "8: pose is missing",
        "9: fps=0.0 is out of range",
    ]


def test_a_changed_video_is_loaded_again(comfy: Comfy, nodes: dict[str, Any]) -> None:
    path = comfy.root / "input" / "dance.mp4"
    path.write_bytes(b"one")
    node = nodes["PoseDanceLoadDriving"]
    before = node.IS_CHANGED("dance.mp4", stride=2)
    assert node.IS_CHANGED("dance.mp4", stride=2) == before
    path.write_bytes(b"another")
    assert node.IS_CHANGED("dance.mp4", stride=2) != before


def animate(nodes: dict[str, Any]) -> torch.Tensor:
    control = torch.zeros((7, 96, 64, 3))
    node = nodes["PoseDanceAnimate"]()
    (frames,) = node.animate(torch.rand(1, 96, 64, 4), control, "tiny-random", 3, 2, 3, 1, -1.0)
    return frames


def test_cancel_ends_the_denoising(comfy: Comfy, nodes: dict[str, Any]) -> None:
    comfy.cancel_after = 1
    with pytest.raises(comfy_stub.InterruptProcessingException):
        animate(nodes)
    assert comfy.progress == [(1, 8)]
    assert animate(nodes).shape == (6, 96, 64, 3)


def test_a_cancelled_video_is_not_written(comfy: Comfy, nodes: dict[str, Any]) -> None:
    comfy.cancel_after = 2
    with pytest.raises(comfy_stub.InterruptProcessingException):
        nodes["PoseDanceSave"]().save(torch.zeros(5, 32, 32, 3), 15.0, "shown/dance", 18)
    assert not list((comfy.root / "output").rglob("*.*"))


def test_sound_goes_through_as_samples(comfy: Comfy, nodes: dict[str, Any]) -> None:
    rate = 8000
    wave = torch.sin(torch.arange(rate, dtype=torch.float32) * 0.3)
    audio = {"waveform": torch.stack([wave, -wave])[None], "sample_rate": rate}
    made = nodes["PoseDanceSave"]().save(torch.rand(16, 32, 32, 3), 16.0, "dance", 18, audio)
    path = Path(made["result"][0])
    path.rename(comfy.root / "input" / "dance.mp4")
    frames, sound, fps, count = nodes["PoseDanceLoadDriving"]().load("dance.mp4", 1, 0.25, 0.5)
    assert (fps, count) == (16.0, 8) and frames.shape == (8, 32, 32, 3)
    assert sound["sample_rate"] == rate and sound["waveform"].shape == (1, 2, rate // 2)
    left, right = sound["waveform"][0].numpy()
    wanted = wave[rate // 4 : 3 * rate // 4].numpy()
    assert np.corrcoef(left, wanted)[0, 1] > 0.95 and np.corrcoef(right, wanted)[0, 1] < -0.95


def dwpose(size: tuple[int, int]) -> list[dict[str, Any]]:
    """One drawn frame as comfyui_controlnet_aux has it: 70 points of a face, and no left hand."""
    drawn = render(make_character(5), make_motion(2, Fraction(15)), 3, *size)
    poses = PoseSequence(drawn.keypoints[None], drawn.scores[None], size, Fraction(15))
    (frame,) = openpose_frames(poses)
    person = frame["people"][0]
    del person["foot_keypoints_2d"], frame["fps"]
    person["face_keypoints_2d"] += [0.0] * 6
    person["hand_left_keypoints_2d"] = None
    return [frame]


def test_poses_of_dwpose_nodes_are_taken(comfy: Comfy, nodes: dict[str, Any]) -> None:
    poses = dwpose((144, 256))
    (control,) = nodes["PoseDanceDrawControl"]().draw(poses, 512)
    assert control.shape == (1, 256, 144, 3) and control.max() > 0.5
    picture = torch.zeros((1, 512, 288, 3))  # twice the size of DWPose's canvas
    fitted, own, placed = nodes["PoseDanceFitPose"]().fit(
        poses, picture, poses, 72, 128, align="limbs", fit="crop"
    )
    assert placed.shape == (1, 128, 72, 3)
    points = [poses_of_layout(each).keypoints[0, 5:13] for each in (fitted, own)]
    np.testing.assert_allclose(points[0], points[1], atol=0.1)
    np.testing.assert_allclose(points[1], poses_of_layout(poses).keypoints[0, 5:13] / 2, atol=0.6)


def test_a_model_of_comfyuis_folder_goes_by_its_name(comfy: Comfy, pack: ModuleType) -> None:
    shapes = sys.modules[f"{pack.__name__}.shapes"]
    (comfy.root / "models" / "posedance" / "mine").mkdir(parents=True)
    assert shapes.model_named("mine") == str(comfy.root / "models" / "posedance" / "mine")
    assert shapes.model_named("demo") == "demo"


def test_the_pack_uses_public_names_alone_and_nothing_imports_it() -> None:
    for path in PACK.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("posedance"):
                package = {"posedance.stages": posedance.stages, "posedance.pipeline": posedance.pipeline}
                assert node.module in package
                assert {alias.name for alias in node.names} <= set(package[node.module].__all__)
    for layer in ("stages", "datasets", "pipeline", "configs"):
        for path in (PACK.parent / layer).rglob("*.py"):
            assert "import comfy" not in path.read_text() and "from comfy" not in path.read_text()


def test_it_is_a_project_of_its_own_and_not_in_the_wheel() -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == ["posedance"] and project["tool"]["comfy"]
    house = tomllib.loads((PACK.parent / "pyproject.toml").read_text())
    assert not [name for name in house["tool"]["setuptools"]["packages"] if "comfy" in name]
