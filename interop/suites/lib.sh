# Shared by the runners in this folder: which broker, which tests are left out and why, and how a
# run is summed up. A runner prepares its suite with the network at hand, then calls run_suite.
#
# Invariants: the suites are run as their registries hold them, never edited; every test left out
# stands in NAME.skip with a reason; a listed test that does not exist makes the run fail, so that
# the list cannot rot.
# Sourced, not run.
# shellcheck shell=bash disable=SC2154 # interop/lib.sh sets interop

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
suite="${0##*/}"
suites="$interop/suites"

broker=leveret all=no
usage() {
  echo "usage: $suite [--broker leveret|rabbitmq] [--all]
  Runs $suite's own tests. --all runs those of $suite.skip too." >&2
  exit 64
}
while (($#)); do
  case "$1" in
    --broker) broker="${2:-}" && shift ;;
    --broker=*) broker="${1#*=}" ;;
    --all) all=yes ;;
    *) usage ;;
  esac
  shift || usage
done
[[ "$broker" == leveret || "$broker" == rabbitmq ]] || usage
launcher="$interop/broker"
[[ "$broker" == leveret ]] || launcher="$interop/rabbitmq"

# skipped: the names of the tests to leave out with this broker, one a line. A line of the list is
# `NAME # reason`, or `NAME @rabbitmq # reason` for a test left out with that broker only.
skipped() {
  [[ "$all" == no ]] || return 0
  local line name only
  while IFS= read -r line; do
    [[ -z "$line" || "$line" == \#* ]] && continue
    [[ "$line" == *' # '* ]] || die "$suite.skip: no reason given in: $line"
    name="${line%% # *}" only=
    if [[ "$name" == *' @'* ]]; then
      only="${name##* @}"
      name="${name%% @*}"
    fi
    [[ -z "$only" || "$only" == "$broker" ]] && printf '%s\n' "$name"
  done <"$suites/$suite.skip"
  return 0
}

# check_skips: standard input holds the names of all tests; a listed name missing there is an error.
check_skips() {
  local names unknown
  names="$(sort -u)"
  unknown="$(skipped | sort -u | comm -23 - <(printf '%s\n' "$names"))"
  [[ -z "$unknown" ]] || die "$suite.skip names tests that do not exist: $unknown"
}

# A scratch folder, and in it the broker's; gone when the runner ends.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export work launcher

# run_suite FUNCTION: the exported FUNCTION, with a fresh broker on the usual ports in a network of
# its own. It leaves its results in $work.
run_suite() {
  need_command ip iproute2
  "$launcher" install
  local started=$SECONDS
  (in_own_network bash -euo pipefail -c '
    "$launcher" start "$work/broker" 5672
    trap "\"$launcher\" kill \"$work/broker\"" EXIT
    "$1"' - "$1") || die "the run broke off: $(tail -5 "$work/broker/log" 2>/dev/null)"
  elapsed=$((SECONDS - started))
}

# finish VERSION PASSED FAILED SKIPPED: the closing line, and the runner's exit code.
finish() {
  # Where CI or a person wants to read on after a failure: INTEROP_LOGS names a folder.
  if (($3 > 0)) && [[ -n "${INTEROP_LOGS:-}" ]]; then
    mkdir -p "$INTEROP_LOGS"
    cp "$work/broker/log" "$INTEROP_LOGS/$suite-broker.log"
    find "$work" -maxdepth 1 -type f -exec cp {} "$INTEROP_LOGS" \;
  fi
  say "$1 with $broker, ${elapsed} s"
  echo "$suite: $2 passed, $3 failed, $4 skipped"
  (($2 > 0 && $3 == 0))
}
