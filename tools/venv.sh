#!/bin/sh
# Make a virtual environment ready: tools/venv.sh PYTHON VENV EXTRA [CONSTRAINTS]
#
# Creates VENV with PYTHON if there is none, or if the one there is broken, moved, half installed or
# of another Python version; then installs this project with EXTRA. A stamp in VENV, written last,
# makes the next call quick; it holds a checksum of the files that say what to install.
set -eu

python=$1
venv=$2
extra=$3
constraints=${4:-}
cd "$(dirname "$0")/.."
root=$(pwd -P)
stamp=$venv/.installed-$extra
unfinished=$venv/.unfinished

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
# An interrupted installation must stay marked as unfinished, whatever the installer exits with.
trap 'exit 130' INT
trap 'exit 143' TERM HUP

version_of='import sys; print("%d.%d.%d" % sys.version_info[:3])'
version=$("$python" -c "$version_of" 2>/dev/null) ||
    fail "cannot run '$python'; install Python 3.11 or newer, or choose one: make PYTHON=python3.12 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "'$python' is Python $version; this project needs 3.11 or newer: make PYTHON=python3.12 ..."

usable() {
    [ ! -e "$unfinished" ] || return 1
    found=$("$venv/bin/python" -c "import pip; $version_of" 2>/dev/null) || return 1
    [ "$found" = "$version" ] || return 1
    # Scripts name their interpreter by its full path, so a moved environment shows there.
    head -n 2 "$venv/bin/pip" 2>/dev/null | grep -qF "$root/$venv/bin/python"
}

create() {
    # The interpreter may be the one inside the environment that is about to be replaced.
    inside='import os, sys; sys.exit(not os.path.samefile(sys.prefix, sys.argv[1]))'
    if [ -d "$venv" ] && "$python" -c "$inside" "$venv" 2>/dev/null; then
        python=$("$python" -c 'import sys; print(sys._base_executable)')
    fi
    advice="on Debian or Ubuntu install python3-venv (or python${version%.*}-venv), then run make again"
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        fail "'$python' (Python $version) cannot create virtual environments; $advice"
    printf 'Creating %s with Python %s\n' "$venv" "$version"
    rm -rf "$venv"
    if ! log=$("$python" -m venv "$venv" 2>&1); then
        rm -rf "$venv"
        reason=$(printf '%s\n' "$log" | grep . | tail -n 1)
        fail "'$python -m venv' failed ($reason); $advice"
    fi
}

usable || create

# The version is part of what is installed, hence of the key.
key=$(
    {
        printf '%s\n' "$root"
        cat setup.cfg pyproject.toml fsd_jax/_version.py ${constraints:+"$constraints"}
    } | cksum
)
if [ "$(cat "$stamp" 2>/dev/null)" != "$key" ]; then
    printf "Installing what '%s' needs into %s (minutes, the first time)\n" "$extra" "$venv"
    : >"$unfinished"
    if ! "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        ${constraints:+--constraint "$constraints"} --editable ".[$extra]"; then
        # An orderly failure, such as no network, leaves the environment as good as it was.
        rm -f "$unfinished"
        fail "could not install what '$extra' needs; the installer's message is above"
    fi
    printf '%s\n' "$key" >"$stamp"
    rm -f "$unfinished"
fi
