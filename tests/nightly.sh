#!/usr/bin/env bash
# What takes too long for every change: every reader under clang's libFuzzer (tests/fuzz), and 500 random layouts.
#   tests/nightly.sh               all of it
#   tests/nightly.sh yaml recipe   these fuzz targets alone
# FUZZ_SECONDS: time a target, 300. FUZZ_CORPUS: folder that keeps from night to night what was found, and inputs that
# fail under crashes/; without it they lie in a temporary folder, which stays after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-300}
work=$(mktemp -d)
corpus=$(realpath -m "${FUZZ_CORPUS:-$work/corpus}")
[ -w /dev/shm ] && memory=/dev/shm || memory=$work
scratch=$(mktemp -d -p "$memory")  # files that readers open by name
trap 'rm -rf "$scratch"' EXIT

# As check_clang, so that ccache knows what is not instrumented.
cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O0 -DNDEBUG" \
  -DDEEPFLOW_KERNEL_OPTIMIZATION=-O0 -DCMAKE_CXX_COMPILER=clang++ -DDEEPFLOW_CUDA=OFF -DDEEPFLOW_WERROR=ON \
  -DDEEPFLOW_FUZZ=ON >/dev/null
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -n 's/^deepflow_fuzz(\([a-z0-9_]*\).*/\1/p' tests/fuzz/CMakeLists.txt)
cmake --build build-fuzz -j "$(nproc)" --target "${targets[@]/#/fuzz_}"

# fuzz TARGET: false when an input crashes, hangs, leaks or takes 2 GiB.
fuzz() {
  local program=build-fuzz/fuzz_$1 log=$work/$1.log words=$work/$1.dict
  mkdir -p "$corpus/$1" "$corpus/crashes"
  "$program" --write-seeds "$work/seeds/$1" "$PWD"
  # The words of the seeds, with their quotes, are what the format knows.
  { grep -ahoE '"?[A-Za-z_]{3,40}"?' -r "$work/seeds/$1" || true; } | sort -u | head -n 500 |
    sed 's/"/\\"/g; s/.*/"&"/' >"$words"
  [ -s "$words" ] || echo '"word"' >"$words"
  echo "fuzzing $1 for $seconds s"
  if TMPDIR=$scratch "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -dict="$words" -artifact_prefix="$corpus/crashes/$1-" "$corpus/$1" "$work/seeds/$1" >"$log" 2>&1; then
    grep -E 'number_of_executed_units|new_units_added' "$log"
  else
    tail -n 60 "$log"
    echo "$1 failed; run it again: $program $(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)" >&2
    return 1
  fi
}

failed=()
for target in "${targets[@]}"; do fuzz "$target" || failed+=("$target"); done
if [ $# -eq 0 ]; then
  cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DDEEPFLOW_WERROR=ON >/dev/null
  cmake --build build -j "$(nproc)" --target nightly || failed+=("random layouts")
fi
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}; logs in $work" >&2
  exit 1
fi
rm -rf "$work"
