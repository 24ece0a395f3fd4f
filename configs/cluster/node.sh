#!/usr/bin/env bash
# One machine of a Ray cluster on bare metal, in the foreground: Ctrl-C or a stopped service takes it out.
#
#   configs/cluster/node.sh head                 on the first machine; prints the address for the others
#   configs/cluster/node.sh worker HEAD:6379     on each other machine
#   configs/cluster/node.sh wait HEAD:6379 4     returns when there are four
#   python run.py batch ... --ray-address HEAD:6379    on any of them, in the same folder on each
#
# Needs posedance in the same version on each machine, `ray` on the PATH (source .venv/bin/activate), and open
# ports between them: only on a private network, for whoever reaches a port and knows the token can run code here.
# The token is ~/.ray/auth_token. `head` makes it where there is none; copy it to the same place on the others
# before they start. Commands that use the cluster want it too, and RAY_AUTH_MODE=token.
# RAY_PORT names another port than 6379. More options go to `ray start`: configs/cluster/node.sh head --num-gpus 4
set -euo pipefail

# Ray counts the cores of the machine; a batch system may have given us fewer.
cpus() { python -c 'from posedance.stages.threads import usable_cpus; print(usable_cpus())'; }

role=${1:?"usage: node.sh head | node.sh worker HEAD:PORT | node.sh wait HEAD:PORT NODES"}
shift
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
case $role in
head)
    if [ "$RAY_AUTH_MODE" = token ]; then
        (umask 077 && ray get-auth-token --generate > /dev/null) # Ray itself lets everybody read it
        if [ -f ~/.ray/auth_token ]; then chmod 600 ~/.ray/auth_token; fi
    fi
    exec ray start --head --port "${RAY_PORT:-6379}" --disable-usage-stats --block --num-cpus "$(cpus)" "$@"
    ;;
worker)
    address=${1:?"usage: node.sh worker HEAD:PORT"}
    shift
    exec ray start --address "$address" --disable-usage-stats --block --num-cpus "$(cpus)" "$@"
    ;;
wait)
    exec python - "$@" <<'PYTHON'
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
PYTHON
    ;;
*)
    echo "usage: node.sh head | node.sh worker HEAD:PORT | node.sh wait HEAD:PORT NODES" >&2
    exit 2
    ;;
esac
