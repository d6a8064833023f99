#!/bin/bash
# Make this machine ready. Run it as often as you like: it does only what is missing.
#
#   setup/setup.sh lab    everything: distribution packages and .venv
#   setup/setup.sh desk   .venv without libvirt: enough to read results, verify and draw
#   setup/setup.sh lock   resolve the pinned versions again (needs `uv` on the PATH)
#
# Environment: PYTHON (interpreter to use), TESTBED_SKIP_APT=1 (you install the distribution's packages).
# Exit status: 0 ready, 3 something is missing that only you can install.
set -euo pipefail
# The user's settings for other work: `cd` would look in CDPATH first; what PYTHONPATH holds would count as installed, and
# its plugins would be loaded; PIP_PYTHON would install for another Python.
unset CDPATH PYTHONPATH PYTHONHOME PIP_PYTHON
cd -P -- "$(dirname "$0")/.."

lab_or_desk=${1:-lab}
stamp=.venv/setup-stamp

say() { echo "setup: $*" >&2; }

# The directory too: the programs of .venv name it, so a tree that was moved or copied needs another .venv.
key() { { pwd; cat setup/setup.sh setup/*.lock setup/apt-packages.txt pyproject.toml; } | sha256sum | cut -d' ' -f1; }

wanted_packages() { sed -e 's/#.*//' -e '/^ *$/d' setup/apt-packages.txt; }

missing_packages() {
  local have
  have=$(wanted_packages | xargs dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null || true)
  wanted_packages | grep -vxF -f <(sed -n 's/^installed //p' <<<"$have") || true
}

# Venv and pip must work, and in the lab the headers must be there, since libvirt-python is compiled.
usable_python() {
  local header='pathlib.Path(sysconfig.get_path("include"), "Python.h").exists()'
  [ "$lab_or_desk" = desk ] && header=True
  "$1" -c "import sys, venv, ensurepip, ssl, pathlib, sysconfig
sys.exit(not (sys.version_info >= (3, 11) and $header))" 2>/dev/null
}

find_python() {
  local candidate candidates=(python3 /usr/bin/python3)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    usable_python "$candidate" && command -v "$candidate" && return
  done
  return 1
}

install_packages() {
  local packages=$* as_root=""
  if ! command -v apt-get >/dev/null; then
    say "this machine has no apt-get; it needs the equivalents of: $packages"
    say "when they are there, run: TESTBED_SKIP_APT=1 make setup"
    exit 3
  fi
  if [ "$(id -u)" != 0 ]; then
    # With a terminal sudo may ask for the password; without one it must not need to.
    if sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then
      as_root=sudo
    else
      say "packages are missing and you are not root here. Paste this as root, then run the same command again:"
      echo "apt-get update && apt-get install --no-install-recommends $packages"
      exit 3
    fi
  fi
  say "installing packages: $packages"
  $as_root apt-get -q update
  # shellcheck disable=SC2086 - a list of names
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages
}

make_venv() {
  local python=$1 pip=".venv/bin/python -m pip -qq --disable-pip-version-check"
  # A pip.conf or PIP_* may send packages elsewhere (user, target, prefix, root). Its index settings must stay.
  local here=(--no-user --target= --prefix="$PWD/.venv" --root=/)
  if ! .venv/bin/python -c 'import pip' 2>/dev/null || ! grep -qsF "$PWD/.venv/bin/" .venv/bin/pip; then
    say "making .venv with $python"
    "$python" -m venv --clear .venv
  fi
  say "installing the pinned Python packages into .venv"
  # No build isolation: it would fetch an unpinned setuptools to compile libvirt-python.
  $pip install "${here[@]}" -r setup/build.lock
  # No dependencies: the lock has them all. An older pip asks the index for a name with extras that is pinned without them
  # (pytest-cov wants coverage[toml]), finds a newer release than the pinned one, and refuses it.
  $pip install "${here[@]}" --no-build-isolation --use-pep517 --no-deps -r <(pinned)
  # It needs no index, so no setting: `require-hashes` would refuse a directory.
  PIP_CONFIG_FILE=/dev/null $pip --isolated install --no-build-isolation --no-deps -e .
}

pinned() {
  if [ "$lab_or_desk" = desk ]; then
    awk '/^[a-z]/ { keep = !/^libvirt-python==/ } keep' setup/requirements.lock
  else
    cat setup/requirements.lock
  fi
}

lock() {
  local compile=(uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes
    --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "setup/setup.sh lock")
  "${compile[@]}" --upgrade --extra notebooks --extra docs --extra dev -o setup/requirements.lock pyproject.toml
  "${compile[@]}" --upgrade -o setup/build.lock - <<<"setuptools>=77"
}

importable() {
  local imports=testbed,pydantic,pytest
  [ "$lab_or_desk" = desk ] || imports+=,libvirt
  .venv/bin/python -c "import $imports" 2>/dev/null
}

# A stamp of the lab is valid for the desk too. The imports notice a Python that the distribution replaced.
up_to_date() { [ -f "$stamp" ] && grep -qxE "(lab|$lab_or_desk) $1" "$stamp" && importable; }

main() {
  local missing="" now python
  [ "$lab_or_desk" != lock ] || { lock; return; }
  exec 9<setup/setup.sh
  flock 9 # two `make` at once
  now=$(key)
  if [ "$lab_or_desk" = lab ] && [ -z "${TESTBED_SKIP_APT:-}" ]; then
    missing=$(missing_packages | xargs)
  fi
  [ -n "$missing" ] || ! up_to_date "$now" || return 0
  [ -z "$missing" ] || install_packages "$missing"
  if ! python=$(find_python) && [ "$lab_or_desk" = desk ] && [ -z "${PYTHON:-}${TESTBED_SKIP_APT:-}" ]; then
    install_packages python3-venv
    python=$(find_python) || python=""
  fi
  if [ -z "$python" ]; then
    say "no Python 3.11 or later with venv, ensurepip and (for the lab) headers; tried: ${PYTHON:-python3 /usr/bin/python3}"
    say "name one: PYTHON=/path/to/python3 make setup"
    exit 3
  fi
  make_venv "$python"
  importable || {
    say "pip ended well, but .venv lacks packages. Your settings of pip: .venv/bin/python -m pip config list"
    exit 3
  }
  echo "$lab_or_desk $now" >"$stamp"
  say "ready ($lab_or_desk)"
}

main
