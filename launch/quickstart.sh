#!/usr/bin/env bash
# From a bare machine to a trained model: installs, builds, makes the corpus, trains examples/quickstart.yaml on two ranks,
# and shows what was reached. What did not change is not made again.
#   launch/quickstart.sh [key=value ...]      overrides of the recipe (train.steps=100)
set -euo pipefail
cd "$(dirname "$0")/.."
started=$(date +%s)
data=data/gcide
run=runs/quickstart
heldout_bytes=2000000
build=${DEEPFLOW_BUILD:-build}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say() { printf '\n== %s (%d s)\n' "$1" "$(($(date +%s) - started))"; }

# make_once OUT INPUTS... -- COMMAND...: runs COMMAND unless OUT was made from the same inputs by the same command.
make_once() {
  local out=$1 inputs=()
  shift
  while [ "$1" != -- ]; do
    inputs+=("$1")
    shift
  done
  shift
  local stamp
  stamp="$(printf '%s\n' "$*" | cat - "${inputs[@]}" | sha256sum)"
  if [ -e "$out" ] && [ "$(cat "$out.made" 2>/dev/null)" = "$stamp" ]; then
    echo "$out: unchanged"
    return
  fi
  "$@"
  echo "$stamp" >"$out.made"
}

split_corpus() {
  zcat /usr/share/dictd/gcide.dict.dz >"$data/corpus.txt"
  tail -c "$heldout_bytes" "$data/corpus.txt" >"$data/heldout.txt"
  truncate -s "-$heldout_bytes" "$data/corpus.txt"
}

say "installing what is missing"
./launch/install_deps.sh

say "building"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release ${DEEPFLOW_CMAKE_ARGS:-} >/dev/null
cmake --build "$build" --target deepflow -j "$(nproc)"
deepflow=$build/deepflow

say "corpus, tokenizer, token stores"
mkdir -p "$data"
make_once "$data/corpus.txt" /usr/share/dictd/gcide.dict.dz -- split_corpus
make_once "$data/tokenizer.json" "$data/corpus.txt" -- \
  "$deepflow" data train-tokenizer --vocabulary 4096 --out "$data/tokenizer.json" "$data/corpus.txt"
for part in corpus:train heldout:heldout; do
  make_once "$data/${part#*:}.h5" "$data/${part%:*}.txt" "$data/tokenizer.json" -- \
    "$deepflow" data tokenize --tokenizer "$data/tokenizer.json" --out "$data/${part#*:}.h5" "$data/${part%:*}.txt"
done
make_once "$data/heldout.txt.xz" "$data/heldout.txt" -- xz --keep --force -9e "$data/heldout.txt"
bpb_xz=$(awk -v c="$(stat -c %s "$data/heldout.txt.xz")" -v n="$heldout_bytes" 'BEGIN { printf "%.4f", 8 * c / n }')

say "training"
train() {
  mpirun -n 2 --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca pml ob1 --mca btl vader,self \
    "$deepflow" train examples/quickstart.yaml "$@"
}
# A run that ended and whose inputs have changed begins anew; one that was interrupted goes on.
train_or_go_on() {
  if [ -e "$run/metrics.jsonl.made" ]; then rm -rf "$run/checkpoints" "$run/metrics.jsonl.made"; fi
  train "$@"
}
make_once "$run/metrics.jsonl" examples/quickstart.yaml "$data/train.h5" "$data/heldout.h5" "$deepflow" -- train_or_go_on "$@"

say "a paragraph"
"$deepflow" generate "$run" --prompt "Ocean, n." --max-tokens 160 --seed 1

heldout_bpb() { sed -n 's/.*"heldout_bits_per_byte":\([0-9.]*\).*/\1/p' "$run/metrics.jsonl" | "$1" -n 1 | xargs printf '%.4f'; }
bpb_before=$(heldout_bpb head)
bpb_after=$(heldout_bpb tail)
say "held-out text in bits per byte"
printf 'before training %s\nxz -9e          %s\nafter training  %s\nloss curve      %s\n' \
  "$bpb_before" "$bpb_xz" "$bpb_after" "$run/loss.svg"
printf '{"seconds": %d, "bpb_before": %s, "bpb_after": %s, "bpb_xz": %s}\n' \
  "$(($(date +%s) - started))" "$bpb_before" "$bpb_after" "$bpb_xz"
