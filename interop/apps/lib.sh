# Shared by the scripts NAME/run in this folder: which broker, one fresh for each driver, and how a
# run is summed up.
#
# Invariants: applications are run as their registries hold them, never edited; a driver learns
# about the broker from its environment only; each driver has a broker to itself.
# Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # interop/lib.sh sets interop; NAME/run uses the rest

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$interop/clients.sh"
apps="$interop/apps"
app_dir="$(cd "$(dirname "$0")" && pwd)"
app="${app_dir##*/}"

broker=leveret
usage() {
  echo "usage: apps/$app/run [--broker leveret|rabbitmq] [SCENARIO...]" >&2
  exit 64
}
scenarios=()
while (($#)); do
  case "$1" in
    --broker) broker="${2:-}" && shift ;;
    --broker=*) broker="${1#*=}" ;;
    -*) usage ;;
    *) scenarios+=("$1") ;;
  esac
  shift || usage
done
[[ "$broker" == leveret || "$broker" == rabbitmq ]] || usage
launcher="$interop/broker"
[[ "$broker" == leveret ]] || launcher="$interop/rabbitmq"

# A scratch folder, and in it the broker's; gone when the run ends.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export work app

# play TITLE COMMAND...: the driver, with a broker of its own on the usual ports in a network of
# its own. It prints `ok NAME`, `FAIL NAME: why` or `skip NAME: why` for each scenario; its exit
# code is not zero when one failed. What applications say goes to standard error and is shown only
# when something failed. Closes with `NAME: N passed, N failed`.
play() {
  local title="$1" code=0 started=$SECONDS passed failed skips
  shift
  need_command ip iproute2
  "$launcher" install
  # The longest driver takes a minute or two.
  with_broker "$launcher" "$work/broker" "${APP_SECONDS:-300}" "$@" "${scenarios[@]}" \
    >"$work/out" 2>"$work/err" || code=$?
  grep -E '^(ok|FAIL|skip) ' "$work/out" | sed -E "s/^(ok|FAIL|skip) /\1 $app /" || true
  passed="$(grep -c '^ok ' "$work/out" || true)"
  failed="$(grep -c '^FAIL ' "$work/out" || true)"
  skips="$(grep -c '^skip ' "$work/out" || true)"
  if ((code != 0 && failed == 0)); then
    echo "FAIL $app: the driver ended with exit code $code"
    failed=1
  fi
  if ((failed > 0)); then
    tail -n "${APP_LINES:-60}" "$work/err" 2>/dev/null | sed 's/^/    /' >&2 || true
    if [[ -n "${INTEROP_LOGS:-}" ]]; then
      mkdir -p "$INTEROP_LOGS"
      cp "$work/broker/log" "$INTEROP_LOGS/app-$app-broker.log"
      cp "$work/err" "$INTEROP_LOGS/app-$app.log"
    fi
  fi
  say "$title with $broker, $((SECONDS - started)) s"
  echo "$app: $passed passed, $failed failed$( ((skips == 0)) || echo ", $skips skipped")"
  ((passed > 0 && failed == 0))
}
