#!/usr/bin/env bash
# One machine of a Ray cluster on bare metal, in the foreground: Ctrl-C or a stopped service takes it out.
#
#   configs/cluster/node.sh head                 on the first machine; prints the address for the others
#   configs/cluster/node.sh worker HEAD:6379     on each other machine
#   python run.py batch ... --ray-address HEAD:6379    on any of them, in the same folder on each
#
# Needs posedance in the same version on each machine, `ray` on the PATH (source .venv/bin/activate), and open
# ports between them: only on a private network, for whoever reaches the port can run code here.
# RAY_PORT names another port than 6379. More options go to `ray start`: configs/cluster/node.sh head --num-gpus 4
set -euo pipefail

role=${1:?"usage: node.sh head | node.sh worker HEAD:PORT"}
shift
case $role in
head)
    exec ray start --head --port "${RAY_PORT:-6379}" --disable-usage-stats --block "$@"
    ;;
worker)
    address=${1:?"usage: node.sh worker HEAD:PORT"}
    shift
    exec ray start --address "$address" --disable-usage-stats --block "$@"
    ;;
*)
    echo "usage: node.sh head | node.sh worker HEAD:PORT" >&2
    exit 2
    ;;
esac
