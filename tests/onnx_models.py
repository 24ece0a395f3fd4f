"""Small ONNX files with the inputs and outputs of real models, for tests and benchmarks.

The files are written field by field (onnx.proto), because the onnx package is not a dependency.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

FLOAT, INT64 = 1, 7


def field(number: int, value: bytes | str | int) -> bytes:
    """One protobuf field: a length-delimited value, or a whole number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def node(kind: str, inputs: Sequence[str], output: str, **attributes: int | list[int]) -> bytes:
    data = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            data += field(5, field(1, name) + field(3, value) + field(20, 2))
        else:
            data += field(5, field(1, name) + b"".join(field(8, v) for v in value) + field(20, 7))
    return field(1, data)


def constant(name: str, values: np.ndarray) -> bytes:
    kind = INT64 if values.dtype == np.int64 else FLOAT
    data = b"".join(field(1, side) for side in values.shape) + field(2, kind) + field(8, name)
    return field(5, data + field(9, values.tobytes()))


def port(number: int, name: str, shape: Sequence[int | str]) -> bytes:
    sides = b"".join(field(1, field(1 if isinstance(side, int) else 2, side)) for side in shape)
    return field(number, field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, sides))))


def write_model(path: Path, graph: bytes) -> Path:
    path.write_bytes(field(1, 8) + field(7, graph + field(2, "g")) + field(8, field(2, 13)))
    return path


def work(source: str, channels: int, name: str, layers: int) -> bytes:
    """Convolutions over `source` [n, 3, h, w] at an eighth of its size, whose result `name` is nearly 0."""
    rng = np.random.default_rng(0)
    graph = node("AveragePool", [source], f"{name}_0", kernel_shape=[8, 8], strides=[8, 8])
    for layer in range(layers + 1):
        shape = (channels, 3 if layer == 0 else channels, 3, 3)
        weight = f"{name}_weight_{layer}"
        graph += constant(weight, (rng.normal(size=shape) / channels).astype(np.float32))
        graph += node(
            "Conv", [f"{name}_{layer}", weight], f"{name}_{layer + 1}", pads=[1, 1, 1, 1], kernel_shape=[3, 3]
        )
    graph += node("ReduceMean", [f"{name}_{layers + 1}"], f"{name}_mean", keepdims=0)
    graph += constant(f"{name}_little", np.array([1e-9], np.float32))
    return graph + node("Mul", [f"{name}_mean", f"{name}_little"], name)


def colour_detector(path: Path, size: int, layers: int = 0, channels: int = 8) -> Path:
    """[1, 3, size, size] -> [1, 2, 5]: left and right half, each scored by its brightest value over 255."""
    half = size // 2
    boxes = np.array([[[0, 0, half - 1, size - 1, 0], [half, 0, size - 1, size - 1, 0]]], np.float32)
    graph = constant("boxes", boxes) + constant("score", np.array([[[0, 0, 0, 0, 1 / 255]]], np.float32))
    graph += constant("halves", np.array([1, 3, size, 2, half])) + constant("shape", np.array([1, 2, 1]))
    graph += node("Reshape", ["input", "halves"], "split")
    graph += node("ReduceMax", ["split"], "bright", axes=[1, 2, 4], keepdims=0)
    graph += node("Reshape", ["bright", "shape"], "column") + node("Mul", ["column", "score"], "scores")
    graph += work("input", channels, "nothing", layers) + node("Add", ["boxes", "scores"], "plain")
    graph += node("Add", ["plain", "nothing"], "dets")
    graph += port(11, "input", [1, 3, size, size]) + port(12, "dets", [1, 2, 5])
    return write_model(path, graph)


def colour_pose(path: Path, width: int, height: int, layers: int = 0, channels: int = 8) -> Path:
    """[n, 3, height, width] -> SimCC [n, 133, 2 width] and [n, 133, 2 height].

    Keypoint k is where channel k % 3 of the crop is brightest.
    """
    graph = constant("which", np.arange(133) % 3) + work("input", channels, "nothing", layers)
    for name, length, axis in (("simcc_x", width, 2), ("simcc_y", height, 3)):
        graph += constant(f"{name}_one", np.array([-1, 133, length, 1]))
        graph += constant(f"{name}_all", np.array([1, 133, length, 2]))
        graph += constant(f"{name}_out", np.array([-1, 133, 2 * length]))
        graph += node("ReduceMax", ["input"], f"{name}_max", axes=[axis], keepdims=0)
        graph += node("Gather", [f"{name}_max", "which"], f"{name}_of", axis=1)
        graph += node("Reshape", [f"{name}_of", f"{name}_one"], f"{name}_a")
        graph += node("Expand", [f"{name}_a", f"{name}_all"], f"{name}_b")
        graph += node("Reshape", [f"{name}_b", f"{name}_out"], f"{name}_c")
        graph += node("Add", [f"{name}_c", "nothing"], name)
    graph += port(11, "input", ["n", 3, height, width])
    graph += port(12, "simcc_x", ["n", 133, 2 * width]) + port(12, "simcc_y", ["n", 133, 2 * height])
    return write_model(path, graph)


def coloured(width: int, height: int, *people: tuple[float, float, float]) -> np.ndarray:
    """A black picture with people of three spots, red, green and blue: x, y of the head, and the height."""
    picture = np.zeros((height, width, 3), np.uint8)
    for x, y, tall in people:
        for channel, (dx, dy) in enumerate(((0, 0), (-0.2, 0.95), (0.2, 1.0))):
            column, row = round(x + dx * tall), round(y + dy * tall)
            reach = max(round(0.04 * tall), 1)
            picture[
                max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1, channel
            ] = 255
    return picture
