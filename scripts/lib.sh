# Shared by the scripts here and by .ci/run; sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=${CARGO_TARGET_DIR:-$ROOT/target}/test-env

# Limit: a slow mirror may need minutes for one package, never this long.
INSTALL_SECS_MAX=900

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}
# A part that is left out must be seen: it is easily taken for a pass.
skipped() { printf '\n!!!! SKIPPED: %s\n\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

can_apt() { [ "$(id -u)" = 0 ] && have apt-get; }

# apt_install PACKAGE...: with the lists at hand first, since most machines have usable ones.
apt_install() {
    can_apt || die "needs the Debian package(s) $*: run 'apt-get install $*' as root"
    say "installing $*"
    apt_get install -y --no-install-recommends "$@" ||
        { apt_get update && apt_get install -y --no-install-recommends "$@"; } ||
        die "could not install $*: see the messages of apt-get above"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive timeout "$INSTALL_SECS_MAX" \
        apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

# python_venv NAME REQUIREMENT...: makes target/test-env/NAME once and prints its python.
# Two callers at once: the second waits for the first.
python_venv() {
    local venv=$TOOLS/$1 python
    shift
    mkdir -p "$TOOLS"
    (
        flock -w "$INSTALL_SECS_MAX" 9 || die "another process has been installing into $venv for too long"
        [ "$(cat "$venv/.complete" 2>/dev/null)" = "$*" ] && exit 0
        python=$(python_for_venv) || die "needs python3 with its venv module: run 'apt-get install python3-venv'"
        say "installing $* into $venv"
        rm -rf "$venv"
        "$python" -m venv "$venv" >&2 &&
            timeout "$INSTALL_SECS_MAX" "$venv/bin/pip" install -q --disable-pip-version-check "$@" >&2 </dev/null ||
            die "could not install $* with pip: see the messages above"
        echo "$*" >"$venv/.complete"
    ) 9>"$venv.lock" || return 1
    echo "$venv/bin/python"
}

python_for_venv() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        can_apt || return 1
        apt_install python3-venv
    fi
    command -v python3
}

# wait_for SECONDS COMMAND...: polls, bounded.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}
