#!/usr/bin/env bash
# Installs the distribution packages that DeepFlow builds and runs with, if they are missing (Debian 12, Ubuntu 24.04 and
# newer). `install_deps.sh` for users, `install_deps.sh --dev` adds what the tests and checks need.
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config ccache make git
  libopenmpi-dev openmpi-bin libdnnl-dev libzstd-dev libxxhash-dev libhdf5-dev libspdlog-dev libfmt-dev libcli11-dev
  libyaml-cpp-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev zlib1g-dev xz-utils dict-gcide)
if [ "${1:-}" = --dev ]; then
  packages+=(libgtest-dev libgmock-dev libbenchmark-dev clang clang-format clang-tidy libclang-rt-dev libomp-dev python3-venv)
fi

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "deepflow: not root and no sudo; ask an administrator for: apt-get install ${missing[*]}" >&2
    exit 2
  }
  as_root=(sudo)
fi
command -v apt-get >/dev/null || {
  echo "deepflow: no apt-get on this system; install the equivalents of: ${missing[*]}" >&2
  exit 2
}
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
