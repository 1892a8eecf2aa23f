# Shared by every script in interop/: the cache, installing what is missing, a private network,
# and one life cycle (start, stop, restart) for whatever broker a script launches.
#
# Invariants: nothing is written into the checkout but build output under target/; whatever
# start_broker started, stop_broker ends, by its own process id; brokers listen on loopback only.
# Sourced, not run. The sourcing script sets -euo pipefail and calls from any directory.
# shellcheck shell=bash disable=SC2034 # what it sets is for the sourcing script

interop="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$interop")"
cache="${LEVERET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/leveret}/interop"
mkdir -p "$cache"

source "$root/scripts/packages.sh"

# once NAME FUNCTION [ARG]...: runs FUNCTION in a fresh directory and keeps the directory under
# the cache as NAME. A half-made directory is never kept; two callers make it once. Prints it.
once() {
  local name="$1" dir="$cache/$1" lock made
  shift
  if [[ ! -d "$dir" ]]; then
    mkdir -p "$(dirname "$dir")"
    exec {lock}>"$dir.lock"
    flock "$lock"
    if [[ ! -d "$dir" ]]; then
      say "preparing $name"
      rm -rf "$dir.new"
      mkdir "$dir.new"
      # Not under `||` or `if`: there bash would go on after a failed step.
      set +e
      (set -e && cd "$dir.new" && "$@") >&2
      made=$?
      set -e
      ((made == 0)) || die "preparing $name failed"
      mv "$dir.new" "$dir"
    fi
    exec {lock}>&-
  fi
  echo "$dir"
}

# digest FILE...: a short name for the contents, so that a cache entry is never stale.
digest() { cat "$@" | sha256sum | cut -c1-12; }

# --- a network of our own ---------------------------------------------------------------------

# in_own_network SCRIPT [ARG]...: replaces this process by SCRIPT in a network namespace that
# holds nothing but loopback. There the usual ports are always free, which several clients' own
# tests insist on, and nothing outside can be reached by mistake. Where the machine forbids
# namespaces the script runs as it is, and the ports have to be free. INTEROP_NETWORK says which.
in_own_network() {
  local enter=(unshare --net) back=()
  # Who is not root is so for a moment, to bring loopback up, and then itself again.
  (($(id -u) == 0)) || {
    enter+=(--map-root-user)
    back=(unshare --user --map-user="$(id -u)" --map-group="$(id -g)")
  }
  if [[ "${INTEROP_NETWORK:-}" != host ]] && command -v ip >/dev/null &&
    "${enter[@]}" ip link set lo up 2>/dev/null; then
    INTEROP_NETWORK=own exec "${enter[@]}" bash -c 'ip link set lo up && exec "$@"' - \
      "${back[@]}" "$@"
  fi
  INTEROP_NETWORK=host exec "$@"
}

# has_ipv6: loopback speaks IPv6, so a broker can listen on ::1 as well.
has_ipv6() { grep -q ' lo$' /proc/net/if_inet6 2>/dev/null; }

# --- TLS ----------------------------------------------------------------------------------------

# tls_settings PORT: settings of both brokers for TLS on the port below, with what
# interop/certificates has put into BROKER_TLS. Clients may show a certificate, and log in by it.
tls_settings() {
  cat <<CONF
listeners.ssl.1 = 127.0.0.1:$(($1 - 1))
ssl_options.cacertfile = $BROKER_TLS/ca.pem
ssl_options.certfile = $BROKER_TLS/server.pem
ssl_options.keyfile = $BROKER_TLS/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
CONF
  ! has_ipv6 || echo "listeners.ssl.2 = ::1:$(($1 - 1))"
}

# --- a broker's life --------------------------------------------------------------------------

# alive PID: runs, and is not merely waiting to be collected by its parent.
alive() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null && [[ "${stat##*) }" != Z* ]]
}

# start_broker DIR PORT READY_TEXT COMMAND...: COMMAND in the background with its output in
# DIR/log; returns once READY_TEXT stands there and the port accepts, or fails with the log's end.
start_broker() {
  local dir="$1" port="$2" ready="$3" pid from deadline=$((SECONDS + ${BROKER_START_SECONDS:-60}))
  shift 3
  mkdir -p "$dir"
  if [[ -f "$dir/pid" ]] && alive "$(<"$dir/pid")"; then die "already running in $dir"; fi
  # The log is appended to over restarts; only what this start writes may say that it is ready.
  touch "$dir/log"
  from=$(($(wc -c <"$dir/log") + 1))
  setsid "$@" >>"$dir/log" 2>&1 </dev/null &
  pid=$!
  disown "$pid"
  echo "$pid" >"$dir/pid"
  echo "$port" >"$dir/port"
  until tail -c "+$from" "$dir/log" | grep "$ready" >/dev/null &&
    (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    if ! alive "$pid" || ((SECONDS > deadline)); then
      tail -20 "$dir/log" >&2
      kill -KILL "-$pid" 2>/dev/null || true
      rm -f "$dir/pid"
      die "the broker in $dir did not start"
    fi
    sleep 0.1
  done
}

# stop_broker DIR [TERM|KILL]: ends what start_broker started and waits until it is gone.
# A broker that ignores TERM for 30 seconds is killed, and that is a failure.
stop_broker() {
  local dir="$1" signal="${2:-TERM}" pid late=0 deadline=$((SECONDS + 30))
  [[ -f "$dir/pid" ]] || return 0
  pid="$(<"$dir/pid")"
  if [[ "$signal" == KILL ]]; then
    kill -KILL "-$pid" 2>/dev/null || true
  else
    kill "-$signal" "$pid" 2>/dev/null || true
  fi
  while alive "$pid"; do
    if ((SECONDS > deadline)); then
      late=1
      kill -KILL "-$pid" 2>/dev/null || true
    fi
    sleep 0.05
  done
  kill -KILL "-$pid" 2>/dev/null || true # helpers that it left in its process group
  rm -f "$dir/pid"
  ((late == 0)) || { say "the broker in $dir ignored SIG$signal for 30 seconds"; return 1; }
}

# with_broker LAUNCHER DIR SECONDS COMMAND...: COMMAND, with a broker of its own in DIR, on the
# usual ports in a network of its own. It finds the broker in its environment, and can restart it. A
# command that hangs is ended after SECONDS.
with_broker() {
  (in_own_network env BROKER="$1" BROKER_DIR="$2" bash -euo pipefail -c '
    export AMQP_HOST=127.0.0.1 AMQP_URL="amqp://guest:guest@127.0.0.1:5672"
    export MANAGEMENT_URL=http://127.0.0.1:15672
    "$BROKER" start "$BROKER_DIR" 5672
    trap "\"\$BROKER\" kill \"\$BROKER_DIR\"" EXIT
    code=0
    timeout --kill-after=10 "$@" </dev/null || code=$?
    exit "$code"' - "${@:3}")
}

# broker_verbs VERB [ARG]...: the command line that interop/broker and interop/rabbitmq share.
# The script defines install, start DIR PORT and ctl DIR ARG...
broker_verbs() {
  local verb="${1:-help}" dir="${2:-}"
  case "$verb:$#" in
    install:1) install ;;
    start:2 | start:3) install && start "$dir" "${3:-5672}" ;;
    stop:2) stop_broker "$dir" TERM ;;
    kill:2) stop_broker "$dir" KILL ;;
    restart:3)
      stop_broker "$dir" "${3^^}"
      start "$dir" "$(<"$dir/port")"
      ;;
    ctl:*) shift 2; ctl "$dir" "$@" ;;
    *)
      cat >&2 <<USAGE
usage: ${0##*/} install                  fetch or build what is missing
       ${0##*/} start DIR [PORT]         start on 127.0.0.1:PORT (5672), data in DIR, till ready
       ${0##*/} stop DIR | kill DIR      SIGTERM and wait | SIGKILL
       ${0##*/} restart DIR term|kill    stop so, then start with the same data
       ${0##*/} ctl DIR ARG...           the broker's command line tool
The management API listens on PORT+10000, Prometheus metrics on PORT+10020.
USAGE
      exit 64
      ;;
  esac
}
