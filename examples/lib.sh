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
