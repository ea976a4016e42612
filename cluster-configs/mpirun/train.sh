#!/usr/bin/env bash
# One run on machines without a scheduler, over ssh:
#   HOSTFILE=my_hosts THREADS=16 cluster-configs/mpirun/train.sh RECIPE [key=value ...]
# Every machine needs DeepFlow, Open MPI and the working folder under the same paths, and ssh without a password.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: train.sh RECIPE [key=value ...]" >&2; exit 2; }
hostfile=${HOSTFILE:-$(dirname "$0")/hostfile}
deepflow=${DEEPFLOW:-build/deepflow}

# As many ranks as the hostfile has slots. THREADS is the number of cores of a rank.
exec mpirun --hostfile "$hostfile" --map-by "slot:PE=${THREADS:-1}" --bind-to core \
  "$deepflow" train "$@" train.threads="${THREADS:-1}"
