/* The negative control: a library to preload that makes syncs do nothing, from NOSYNC_AFTER_MS
 * milliseconds after the process's start on. The program it is preloaded into is the very same;
 * a crash test that does not report what it loses then has no eyes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static long off_ms;

__attribute__((constructor)) static void begin(void)
{
    const char *after = getenv("NOSYNC_AFTER_MS");
    off_ms = now_ms() + (after ? atol(after) : 0);
}

static int is_off(void) { return now_ms() >= off_ms; }

int fsync(int file) { return is_off() ? 0 : (int)syscall(SYS_fsync, file); }

int fdatasync(int file) { return is_off() ? 0 : (int)syscall(SYS_fdatasync, file); }

int syncfs(int file) { return is_off() ? 0 : (int)syscall(SYS_syncfs, file); }

int sync_file_range(int file, off64_t from, off64_t bytes, unsigned int flags)
{
    return is_off() ? 0 : (int)syscall(SYS_sync_file_range, file, from, bytes, flags);
}
