"""Wait until a Ray cluster has so many nodes: python configs/cluster/wait_for_nodes.py HEAD:PORT NODES."""

import logging
import sys
import time

TIMEOUT_S = 600.0
"""After so long a node that is missing will not come: the job ends instead of holding the others."""


def main() -> None:
    import ray

    address, wanted = sys.argv[1], int(sys.argv[2])
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            break
        except ConnectionError:
            if time.monotonic() > deadline:
                sys.exit(f"no Ray cluster at {address} after {TIMEOUT_S:g} s")
            time.sleep(1)
    while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
        if time.monotonic() > deadline:
            sys.exit(f"{alive} of {wanted} nodes at {address} after {TIMEOUT_S:g} s")
        time.sleep(1)
    sys.stdout.write(f"{alive} nodes at {address}, {ray.cluster_resources().get('GPU', 0):g} GPUs\n")


if __name__ == "__main__":
    main()
