/* Cuts the power of one mounted file system, as far as software can: what was not synced is
 * forgotten, the journal's memory included, and every call on it fails until it is mounted anew.
 *
 * Use: cut DIRECTORY, which must be where it is mounted: no other file system is ever touched by
 * mistake. For ext4, xfs and f2fs; root only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* FS_IOC_SHUTDOWN and FS_SHUTDOWN_FLAGS_NOLOGFLUSH, which not every system's headers name. */
#define SHUTDOWN _IOR('X', 125, uint32_t)
#define NO_LOG_FLUSH 2

int main(int count, char **arguments)
{
    uint32_t flags = NO_LOG_FLUSH;
    struct stat inside, outside;
    int directory = count == 2 ? open(arguments[1], O_RDONLY | O_DIRECTORY) : -1;
    if (directory < 0 || fstat(directory, &inside) != 0 ||
        fstatat(directory, "..", &outside, 0) != 0) {
        perror(count == 2 ? arguments[1] : "cut DIRECTORY");
        return 1;
    }
    if (inside.st_dev == outside.st_dev) {
        fprintf(stderr, "%s: nothing is mounted here\n", arguments[1]);
        return 1;
    }
    if (ioctl(directory, SHUTDOWN, &flags) != 0) {
        perror(arguments[1]);
        return 1;
    }
    return 0;
}
