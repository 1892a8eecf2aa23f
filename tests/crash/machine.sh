# What the crash tests need of the machine: file systems that lose power, little memory, strace.
# Each need is tried out before it is relied on; `cannot` says why one is not met.
#
# Invariants: everything is mounted in a namespace of our own and gone with it; nothing outside the
# test's directory is written but a memory group, which remove_group takes away.
# Sourced, not run. The sourcing script sets dir, tests and leveret.
# shellcheck shell=bash

cannot=""

# in_own_mounts SCRIPT [ARG]...: replaces this process by one that waits for SCRIPT, whose mounts
# and processes are its own: whatever ends it ends them all. Where that is not allowed SCRIPT runs as
# it is, and has no file systems to play with.
in_own_mounts() {
  local enter=(unshare --mount --propagation private --pid --fork --kill-child --mount-proc)
  if (($(id -u) == 0)) && "${enter[@]}" true 2>/dev/null; then
    CRASH_MOUNTS=own exec "${enter[@]}" "$@"
  fi
  CRASH_MOUNTS=none exec "$@"
}

# tool NAME [CC-ARGUMENT]...: compiles NAME.c of this directory, once.
tool() {
  local out="$dir/tools/$1"
  [[ -e "$out" ]] && return
  mkdir -p "$dir/tools"
  need_command cc gcc libc6-dev
  cc -O2 -Wall "${@:2}" -o "$out" "$tests/$1.c"
}

# can_mount: file systems of our own can be made, mounted and cut off.
can_mount() {
  [[ -z "${can_mount:-}" ]] || { cannot="$can_mount"; [[ "$cannot" == yes ]]; return; }
  local own="$dir/try"
  if (($(id -u) != 0)); then
    cannot="root only: power is lost on a file system of our own"
  elif [[ "${CRASH_MOUNTS:-}" != own ]]; then
    cannot="no mount namespace of our own"
  elif ! tool cut; then
    cannot="no C compiler"
  elif ! (make_disk "$own" 64M && "$dir/tools/cut" "$own/disk" && umount "$own/disk") \
    >"$dir/try.log" 2>&1; then
    cannot="no ext4 on a loop device that takes the shutdown call: $(tail -1 "$dir/try.log")"
  else
    cannot=yes
  fi
  rm -rf "$own"
  can_mount="$cannot"
  [[ "$cannot" == yes ]]
}

# make_disk DIRECTORY SIZE: an ext4 of SIZE in DIRECTORY/image, mounted on DIRECTORY/disk.
make_disk() {
  mkdir -p "$1/disk"
  truncate -s "$2" "$1/image"
  mkfs.ext4 -q -F "$1/image"
  mount -o loop "$1/image" "$1/disk"
}

# can_trace: strace may trace, and its signals arrive.
can_trace() {
  cannot="strace is missing or may not trace"
  command -v strace >/dev/null || return
  local code=0
  # In a shell of its own, which keeps to itself that something was killed.
  (strace -D -f -qq -o /dev/null -e trace=write -e inject=write:signal=SIGKILL:when=1 \
    sh -c 'echo; echo' || exit $?) >/dev/null 2>&1 || code=$?
  ((code == 137))
}

# can_group: a memory group can be made. Sets group (its directory), group_limit and group_members
# (its files).
can_group() {
  local at
  cannot="no memory groups"
  for at in /sys/fs/cgroup/memory:memory.limit_in_bytes:tasks /sys/fs/cgroup:memory.max:cgroup.procs; do
    IFS=: read -r groups group_limit group_members <<<"$at"
    group="$groups/leveret-crash-$$"
    if mkdir "$group" 2>/dev/null; then
      [[ -w "$group/$group_limit" ]] && return
      rmdir "$group"
    fi
  done
  return 1
}

# grouped COMMAND: the shell command that runs COMMAND in the group, which sees it as a container
# does: as the whole machine's.
grouped() {
  printf 'echo $$ >%q; exec unshare --mount sh -c %q' "$group/$group_members" \
    "mount --bind $group $groups; $1"
}

# remove_group: once nobody is in it.
remove_group() { [[ ! -d "${group:-}" ]] || rmdir "$group"; }
