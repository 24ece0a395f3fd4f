"""The machines that a batch finds: their cores, their GPUs, and how much memory these have."""

import subprocess
from dataclasses import dataclass

ASKING_S = 60.0
"""How long a GPU's driver may take to answer, in seconds."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`gpu_bytes` is the memory of its smallest GPU, 0 where that is not known."""

    cpus: float
    gpus: int = 0
    gpu_bytes: int = 0


def machines_of_ray() -> list[Machine]:
    """Those of the Ray cluster that this process is connected to and that give cores."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    found = []
    for node in ray.nodes():
        gives = node["Resources"]
        if not node["Alive"] or not gives.get("CPU", 0):
            continue
        gpus, answer = int(gives.get("GPU", 0)), None
        if gpus:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = ray.remote(smallest_gpu).options(num_cpus=0, scheduling_strategy=there).remote()
        found.append((gives["CPU"], gpus, answer))
    return [Machine(cpus, gpus, ray.get(answer) if answer else 0) for cpus, gpus, answer in found]


def smallest_gpu() -> int:
    """Bytes of memory of this machine's smallest NVIDIA GPU, as its driver says; 0 where there is none."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASKING_S).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return 0
    return min((int(line) << 20 for line in answer.split() if line.isdecimal()), default=0)
