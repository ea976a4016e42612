#!/usr/bin/env bash
# Installs what is missing, builds, checks and runs every test; ends with ctest's summary.
#   tests/run.sh            all
#   tests/run.sh --fast     build and ctest only: no sanitizers, no clang, no format and tidy checks
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/install_deps.sh --dev
jobs=$(nproc)

if [ "${1:-}" != --fast ]; then
  tests/check_layers
  tests/check_format
  tests/check_sanitizers
  tests/check_clang
fi

cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DDEEPFLOW_WERROR=ON >/dev/null
cmake --build build -j "$jobs"
ctest --test-dir build --output-on-failure -j "$jobs"
