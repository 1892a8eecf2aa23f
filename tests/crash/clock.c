/* A clock that jumps: a library to preload that adds to the time of day as many seconds as the file
 * CLOCK_FILE says, looked at whenever the time is asked for. Clocks that cannot jump are left alone.
 * It allocates nothing and looks nothing up: an allocator asks for the time before it has memory to
 * give, and would wait for itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *file;

__attribute__((constructor)) static void begin(void) { file = getenv("CLOCK_FILE"); }

static long added_s(void)
{
    char text[32];
    long length = 0;
    int before = errno;
    long opened = file ? syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC) : -1;
    if (opened >= 0) {
        length = syscall(SYS_read, opened, text, sizeof text - 1);
        syscall(SYS_close, opened);
    }
    errno = before;
    text[length > 0 ? length : 0] = 0;
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int code = (int)syscall(SYS_clock_gettime, clock, now);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += added_s();
    return code;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
