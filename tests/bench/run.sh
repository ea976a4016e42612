#!/usr/bin/env bash
# tests/bench/run.sh            lists the benchmarks
# tests/bench/run.sh NAME ...   runs one: a table for people, and as the last line one JSON object with its figures.
# Each NAME is tests/bench/NAME.py (with "# bench: what it measures" as its second line) and gets --build DIR. Peers
# (PyTorch, transformers, tokenizers) come from PyPI into a virtual environment under the build folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${DEEPFLOW_BUILD:-$PWD/build}

if [ $# -eq 0 ]; then
  for script in tests/bench/*.py; do
    about=$(sed -n '2s/^# bench: //p' "$script")
    [ -n "$about" ] && printf '%-12s %s\n' "$(basename "$script" .py)" "$about"
  done
  exit 0
fi
name=$1
shift
if [ ! -f "tests/bench/$name.py" ]; then
  echo "deepflow: there is no benchmark $name; tests/bench/run.sh lists them" >&2
  exit 2
fi

./launch/install_deps.sh --dev >&2
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$build" -j "$(nproc)" --target benchmarks >&2
python="${DEEPFLOW_BENCH_PYTHON:-}"
if [ -z "$python" ]; then
  python=$build/bench-python/bin/python
  # A marker names what was installed, so that a changed list is installed again.
  if ! cmp -s tests/bench/requirements.txt "$build/bench-python/installed.txt"; then
    python3 -m venv "$build/bench-python" >&2
    "$python" -m pip install -q --disable-pip-version-check -r tests/bench/requirements.txt >&2
    cp tests/bench/requirements.txt "$build/bench-python/installed.txt"
  fi
fi
export PYTHONPATH="$PWD/tests/bench"
exec "$python" "tests/bench/$name.py" --build "$build" "$@"
