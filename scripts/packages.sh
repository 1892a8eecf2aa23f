# Installing what a Debian machine lacks, as root or with sudo: shared by `setup` and interop/.
#
# Invariant: a machine that has everything is left alone, and not asked for a password.
# Sourced, not run.
# shellcheck shell=bash

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
  if (($(id -u) == 0)); then "$@"; else sudo "$@"; fi
}

# apt VERB ARGUMENT...: apt-get, quietly; the package lists are refreshed first when they are older
# than a day.
apt() {
  local get=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  local log
  command -v apt-get >/dev/null || die "not a Debian machine; install by hand: ${*:2}"
  (($(id -u) == 0)) || command -v sudo >/dev/null ||
    die "neither root nor sudo; as root run: apt-get $*"
  log="$(mktemp)"
  if [[ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mmin -1440 2>/dev/null)" ]]; then
    "${get[@]}" update >"$log" 2>&1 || { cat "$log" >&2; say "apt-get update failed; going on"; }
    # Lists that have not changed keep their date.
    as_root find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -exec touch {} +
  fi
  if ! "${get[@]}" -y --no-install-recommends "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "could not install; try: sudo apt-get $*"
  fi
  rm -f "$log"
}

# need_command COMMAND PACKAGE...: a command, from Debian's packages if there is none.
need_command() {
  command -v "$1" >/dev/null && return
  say "installing Debian's ${*:2}"
  apt install "${@:2}"
  command -v "$1" >/dev/null || die "no $1 after installing ${*:2}"
}

# is_version LEAST HAVE: whether one version is at least the other.
is_version() { printf '%s\n' "$@" | sort -VC; }
