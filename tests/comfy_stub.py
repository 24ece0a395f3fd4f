"""As much of ComfyUI's interface as a node pack meets: its modules, its checks of a graph, and its execution.

Written after `execution.py`, `nodes.py`, `folder_paths.py` and `comfy/utils.py` of ComfyUI.
"""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from posedance.stages.media.picture import read_picture

PACK = Path(__file__).resolve().parents[1] / "comfyui"


class InterruptProcessingException(Exception):  # noqa: N818 (ComfyUI's name)
    """What ends a run that the user has cancelled."""


class Comfy:
    """The modules that a pack imports, with an input, an output and a models folder below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cancel_after: int | None = None
        self.progress: list[tuple[int, int]] = []
        self.outputs: dict[str, tuple[Any, ...]] = {}
        for name in ("input", "output", "models"):
            (root / name).mkdir()

    def modules(self) -> dict[str, ModuleType]:
        comfy = self

        class ProgressBar:
            def __init__(self, total: int, node_id: str | None = None) -> None:
                self.total, self.current = total, 0

            def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
                self.current, self.total = min(value, total or self.total), total or self.total
                comfy.progress.append((self.current, self.total))

            def update(self, value: int) -> None:
                self.update_absolute(self.current + value)

        def throw_exception_if_processing_interrupted() -> None:
            if comfy.cancel_after is not None and len(comfy.progress) >= comfy.cancel_after:
                comfy.cancel_after = None
                raise InterruptProcessingException

        def get_save_image_path(
            prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
        ) -> tuple[str, str, int, str, str]:
            folder = Path(output_dir, Path(prefix).parent)
            folder.mkdir(parents=True, exist_ok=True)
            name = Path(prefix).name
            taken = [int(path.name[len(name) + 1 :].split("_")[0]) for path in folder.glob(f"{name}_*_*")]
            return str(folder), name, max(taken, default=0) + 1, str(Path(prefix).parent), prefix

        def filter_files_content_types(files: list[str], content_types: list[str]) -> list[str]:
            ends = {"video": (".mp4", ".mkv", ".webm", ".mov"), "image": (".png", ".jpg")}
            return [name for name in files if any(name.endswith(ends[kind]) for kind in content_types)]

        folder_paths, utils, management = (
            ModuleType(name) for name in ("folder_paths", "comfy.utils", "comfy.model_management")
        )
        vars(folder_paths).update(
            models_dir=str(self.root / "models"),
            get_input_directory=lambda: str(self.root / "input"),
            get_output_directory=lambda: str(self.root / "output"),
            get_annotated_filepath=lambda name: str(self.root / "input" / name),
            exists_annotated_filepath=lambda name: (self.root / "input" / name).exists(),
            get_save_image_path=get_save_image_path,
            filter_files_content_types=filter_files_content_types,
        )
        vars(utils).update(ProgressBar=ProgressBar)
        vars(management).update(
            throw_exception_if_processing_interrupted=throw_exception_if_processing_interrupted,
            InterruptProcessingException=InterruptProcessingException,
            get_torch_device=lambda: torch.device("cpu"),
        )
        package = ModuleType("comfy")
        vars(package).update(utils=utils, model_management=management)
        named = (folder_paths, utils, management, package)
        return {module.__name__: module for module in named}

    def load_image(self) -> type:
        """ComfyUI's own LoadImage."""
        folder = self.root / "input"

        class LoadImage:
            RETURN_TYPES = ("IMAGE", "MASK")
            FUNCTION = "load_image"

            @classmethod
            def INPUT_TYPES(cls) -> Any:  # noqa: N802
                names = sorted(path.name for path in folder.glob("*.png"))
                return {"required": {"image": (names, {"image_upload": True})}}

            def load_image(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
                picture = torch.from_numpy(read_picture(folder / image).astype(np.float32) / 255)[None]
                return picture, torch.zeros((1, 64, 64))

        return LoadImage


def load_pack() -> ModuleType:
    """The pack, as ComfyUI loads a folder of custom_nodes: by its path, under a name of its own."""
    name = "custom_nodes_posedance"
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]
    spec = importlib.util.spec_from_file_location(
        name, PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def inputs_of(node: type) -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """Type, options, and whether it is required, of each input."""
    types = node.INPUT_TYPES()
    return {
        name: (entry[0], entry[1] if len(entry) > 1 else {}, kind == "required")
        for kind in ("required", "optional")
        for name, entry in types.get(kind, {}).items()
    }


def faults(graph: dict[str, Any], nodes: dict[str, Any]) -> list[str]:
    """What ComfyUI would refuse in a graph of the API's form, before it runs."""
    found = []
    for number, entry in graph.items():
        node, given = nodes[entry["class_type"]], entry["inputs"]
        checked: list[str] = []
        if hasattr(node, "VALIDATE_INPUTS"):
            checked = inspect.getfullargspec(node.VALIDATE_INPUTS).args[1:]
            told = node.VALIDATE_INPUTS(**{name: given[name] for name in checked if name in given})
            if told is not True:
                found.append(f"{number}: {told}")
        for name, (wanted, options, required) in inputs_of(node).items():
            if name not in given:
                if required:
                    found.append(f"{number}: {name} is missing")
                continue
            value = given[name]
            if isinstance(value, list):
                received = nodes[graph[value[0]]["class_type"]].RETURN_TYPES[value[1]]
                if received != wanted:
                    found.append(f"{number}: {name} is {received}, not {wanted}")
            elif isinstance(wanted, list):
                if value not in wanted and name not in checked:
                    found.append(f"{number}: {name}={value} is none of {wanted}")
            elif wanted in ("INT", "FLOAT"):
                number_of = {"INT": int, "FLOAT": float}[wanted](value)
                if not options.get("min", number_of) <= number_of <= options.get("max", number_of):
                    found.append(f"{number}: {name}={value} is out of range")
            elif wanted != "STRING" or not isinstance(value, str):
                found.append(f"{number}: {name} must be a link")
    return found


def execute(
    graph: dict[str, Any], nodes: dict[str, Any]
) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    """Run a graph: what each node returned, and what output nodes show."""
    results: dict[str, tuple[Any, ...]] = {}
    shown: dict[str, Any] = {}

    def run(number: str) -> tuple[Any, ...]:
        if number in results:
            return results[number]
        entry = graph[number]
        node = nodes[entry["class_type"]]
        given = {
            name: run(value[0])[value[1]] if isinstance(value, list) else value
            for name, value in entry["inputs"].items()
        }
        made = getattr(node(), node.FUNCTION)(**given)
        if isinstance(made, dict):
            shown[number] = made["ui"]
            made = made["result"]
        assert len(made) == len(node.RETURN_TYPES), entry["class_type"]
        results[number] = made
        return made

    with torch.inference_mode():
        for number, entry in graph.items():
            if getattr(nodes[entry["class_type"]], "OUTPUT_NODE", False):
                run(number)
    return results, shown


def as_api(workflow: dict[str, Any], nodes: dict[str, Any]) -> dict[str, Any]:
    """A workflow of the page's form in the API's, as the page sends it."""
    links = {link[0]: link for link in workflow["links"]}
    graph: dict[str, Any] = {}
    for entry in workflow["nodes"]:
        linked = {each["name"]: links[each["link"]] for each in entry["inputs"] if each["link"] is not None}
        values, given = list(entry["widgets_values"]), {}
        for name, (wanted, _, _) in inputs_of(nodes[entry["type"]]).items():
            if isinstance(wanted, list) or wanted in ("INT", "FLOAT", "STRING"):
                value = values.pop(0)
                if name == "seed":
                    values.pop(0)  # what the page does with it after a run
                given[name] = value
            if name in linked:
                given[name] = [str(linked[name][1]), linked[name][2]]
        graph[str(entry["id"])] = {"class_type": entry["type"], "inputs": given}
    return graph
