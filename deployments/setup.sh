#!/bin/bash
# Postcondition: every package of debian-packages.txt is installed and .venv holds exactly requirements/lock.txt
# plus this checkout. Safe to repeat; does nothing when nothing is missing. Usage: setup.sh [packages|venv|all|stub]
# `stub`: for the virtual rack that needs no root, only the packages of debian-packages-stub.txt.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 2; }

list=deployments/debian-packages.txt
wanted_packages() { sed -e 's/#.*//' "$list" | tr -s ' \t' '\n' | sed '/^$/d'; }

missing_packages() {
    local package
    for package in $(wanted_packages); do
        dpkg-query -W -f '${db:Status-Abbrev}\n' "$package" 2>/dev/null | grep -q '^ii' || printf '%s\n' "$package"
    done
}

# Installing sshd or PostgreSQL must not start servers on the operator's machine: Debian asks policy-rc.d first
# (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt, exit status 101: action forbidden).
forbid_service_starts() {
    [ -e /usr/sbin/policy-rc.d ] && return 0
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

# … nor at its next boot, for those that were not there before.
disable_new_services() {
    command -v systemctl >/dev/null || return 0
    local package unit
    for package in "$@"; do
        case $package in
            openssh-server) unit=ssh.service ;;
            postgresql | openipmi) unit=$package.service ;;
            *) continue ;;
        esac
        systemctl disable "$unit" >/dev/null 2>&1 || say "could not disable $unit: look whether you want it running"
        say "$unit is installed but disabled; Levier's tests start servers of their own"
    done
}

quietly() { # shows what the command said only if it failed
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ $status = 0 ] || tail -n 40 "$log" >&2
    rm -f "$log"
    return $status
}

apt_install() {
    quietly env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confold -o Acquire::Retries=3 install --no-install-recommends "$@"
}

apt_update() {
    say "fetching the package lists"
    quietly apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} -eq 0 ]; then
        say "all Debian packages are there"
        return 0
    fi
    [ "$(id -u)" = 0 ] || die "Debian packages are missing, and installing them needs root. Run:
    sudo apt-get install --no-install-recommends ${missing[*]}"
    command -v apt-get >/dev/null || die "no apt-get here: Levier is set up on Debian; install by hand: ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    forbid_service_starts
    # Package lists may be absent or too old to download from; only then are they fetched.
    compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || apt_update
    if ! apt_install "${missing[@]}"; then
        say "that failed; once more with fresh package lists"
        apt_update
        apt_install "${missing[@]}"
    fi
    disable_new_services "${missing[@]}"
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    die "no Python >= 3.11 with venv and ensurepip found; install python3-venv or set PYTHON=/path/to/python3"
}

# pip reads the machine's own configuration for where packages come from; the lock says which, by digest.
install_venv() {
    local python stamp wanted
    python=$(find_python)
    stamp=.venv/.levier-installed
    wanted=$({ cat requirements/lock.txt pyproject.toml; "$python" -V; pwd; } | sha256sum)
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        say ".venv is as the lock says"
        return 0
    fi
    say "installing the locked Python packages into .venv with $("$python" -V) ($python)"
    [ "$(cat .venv/.levier-python 2>/dev/null)" = "$("$python" -V)" ] || "$python" -m venv --clear .venv
    "$python" -V >.venv/.levier-python
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --no-deps --require-hashes -r requirements/lock.txt
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" >"$stamp"
    say "ready: $(.venv/bin/python -m pip list --disable-pip-version-check 2>/dev/null | tail -n +3 | wc -l) Python packages"
}

case ${1:-all} in
    packages) install_packages ;;
    venv) install_venv ;;
    all) install_packages && install_venv ;;
    stub) list=deployments/debian-packages-stub.txt && install_packages && install_venv ;;
    *) die "usage: setup.sh [packages|venv|all|stub]" ;;
esac
