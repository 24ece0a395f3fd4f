"""BlazePose's network of a body's landmarks: the wheel's or a file of one's own, without its outline.

Besides the landmarks it draws the person's outline, which nothing here asks for and which takes 0.4 of its
time (46 of 332 operations, at up to 256x256). TFLite computes whatever a model gives, so that is cut off.
"""

import struct
import zipfile
from pathlib import Path

from ...errors import PoseError

BUNDLED = Path("modules", "pose_landmark", "pose_landmark_full.tflite")
"""The network in the wheel of mediapipe 0.10."""

IN_TASK, OF_HANDS = "pose_landmarks_detector.tflite", "hand_landmarks_detector.tflite"
"""Members of .task files, which are zip archives: of pose landmarkers, and of holistic ones besides."""

PICTURE = [1, 256, 256, 3]
GIVEN = ([1, 195], [1, 1], [1, 256, 256, 1], [1, 64, 64, 39], [1, 117])
"""The shapes of what goes in and of what comes out: 39 landmarks, whether somebody is there, the outline,
heatmaps, landmarks in metres. Those of BlazePose full and heavy."""

PRESENCE, OUTLINE = 1, 2
"""Places in GIVEN."""


def is_body_model(path: Path) -> bool:
    """Whether a file is a network of bodies alone: a .tflite file, or a pose landmarker's .task file."""
    if not zipfile.is_zipfile(path):
        return path.suffix == ".tflite"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return IN_TASK in names and OF_HANDS not in names


def read_body_model(path: Path) -> bytes:
    """The network in a .tflite or .task file, for a `Graph` of a body.

    Raises PoseError where the file is none, or one of another shape (BlazePose lite has other heatmaps).
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return without_outline(archive.read(IN_TASK))
        return without_outline(path.read_bytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise PoseError(
            f"{path} cannot be used as BlazePose's network of landmarks ({error}): name a "
            "pose_landmarker.task or pose_landmark.tflite file, full or heavy"
        ) from error


def without_outline(model: bytes) -> bytes:
    """A TFLite model of a body without what only its outline needs; the other outputs stay the same bytes.

    In the outline's place among the outputs is a second presence. Raises ValueError for another model.
    """
    import flatbuffers
    from mediapipe.tasks.metadata import schema_py_generated as schema

    if not schema.Model.ModelBufferHasIdentifier(model, 0):
        raise ValueError("it is no TFLite model")
    try:
        network = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    except struct.error as error:
        raise ValueError(f"it is cut off: {error}") from error
    graph = network.subgraphs[0]
    shapes = [[int(n) for n in graph.tensors[i].shape] for i in (*graph.inputs, *graph.outputs)]
    if shapes != [PICTURE, *GIVEN]:
        raise ValueError(f"its inputs and outputs have the shapes {shapes}, not {[PICTURE, *GIVEN]}")
    graph.outputs = [int(tensor) for tensor in graph.outputs]
    graph.outputs[OUTLINE] = graph.outputs[PRESENCE]
    makers = {tensor: i for i, operation in enumerate(graph.operators) for tensor in operation.outputs}
    needed: set[int] = set()
    wanted = list(graph.outputs)
    while wanted:
        maker = makers.get(wanted.pop())
        if maker is not None and maker not in needed:
            needed.add(maker)
            wanted += list(graph.operators[maker].inputs)
    graph.operators = [operation for i, operation in enumerate(graph.operators) if i in needed]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(network.Pack(builder), b"TFL3")
    return bytes(builder.Output())
