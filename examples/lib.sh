# Shared by the scripts NAME/run in this folder: the broker and its programs, what the example needs
# from its registries, and the driver on top.
#
# Invariants: nothing is written into the checkout; at run time nothing outside is reached, for
# broker and services live in a network of their own; what was started is ended.
# Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # interop/lib.sh and NAME/run set and use the rest

source "$(dirname "${BASH_SOURCE[0]}")/../interop/lib.sh"
source "$interop/clients.sh"
example="$(cd "$(dirname "$0")" && pwd)"
app="example-${example##*/}"

usage() {
  echo "usage: ${example##*/}/run [--short]" >&2
  exit 64
}
case "$*" in
  "") short="" ;;
  --short) short=yes ;; # fewer messages and shorter waits: what CI runs
  *) usage ;;
esac

# A scratch folder for all that the example writes; gone when it ends.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export work

# install_programs SCRIPT...: what the example's triggers may start, as an operator installs it: the
# definitions in programs/ and the scripts can be changed by nobody but who runs the broker.
# /opt/shop and /var/lib/shop become folders in the scratch folder; the program's user becomes
# nobody, or the broker's own where that is not root.
install_programs() {
  local file as='/^user = /d'
  chmod 711 "$work"
  install -d -m 755 "$work/programs" "$work/opt"
  install -d -m 700 "$work/var"
  if (($(id -u) == 0)); then
    as='s/^user = .*/user = "nobody"/'
    chown nobody "$work/var"
  fi
  install -m 644 "${@/#/$example/}" "$work/opt"
  for file in "$example"/programs/*.toml; do
    sed -e "$as" -e "s|/opt/shop|$work/opt|; s|/var/lib/shop|$work/var|" "$file" \
      >"$work/programs/${file##*/}"
  done
  chmod 644 "$work"/programs/*
  export LEVERET_ARGS="--set leveret.triggers.programs_dir=$work/programs"
}

# play COMMAND...: the driver. It prints the page and its exit code says whether all of it held;
# if not, or when it breaks off, what the services wrote is kept where EXAMPLE_LOGS says.
play() {
  local code=0
  need_command ip iproute2
  "$interop/broker" install
  with_broker "$interop/broker" "$work/broker" 300 env SHORT="$short" \
    PYTHONPATH="$root/examples/python:$interop/apps/python:$example" PYTHONDONTWRITEBYTECODE=1 \
    "$@" || code=$?
  if ((code != 0)) && [[ -n "${EXAMPLE_LOGS:-}" ]]; then
    mkdir -p "$EXAMPLE_LOGS"
    cp "$work/broker/log" "$EXAMPLE_LOGS/$app-broker.log"
    cp "$work"/*.log "$EXAMPLE_LOGS/"
  fi
  return "$code"
}
