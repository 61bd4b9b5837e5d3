/*
 * bench/rawdisk.c - the disk's limit: appending the bytes of GROUP records with
 * one write and one fdatasync, again and again, to a file that was filled with
 * zeros before, as the log does.  Nothing that commits each group by itself can
 * be faster than this on one file.  With a RATE so many groups a second: a disk
 * that rests in between often takes longer for each.
 *
 *   rawdisk [-b BYTES] [-g GROUP] [-t SECONDS] [-r RATE] DIR
 */
#include <fcntl.h>

#include "bench/bench.h"

#define FILE_BYTES ((off_t)64 << 20)
#define FILL_BYTES ((size_t)1 << 20)
#define USAGE "usage: rawdisk [-b BYTES] [-g GROUP] [-t SECONDS] [-r RATE] DIR"

static void
fill_with_zeros(int fd)
{
    char *zeros = xcalloc(1, FILL_BYTES);

    for (off_t at = 0; at < FILE_BYTES; at += (off_t)FILL_BYTES)
        if (pwrite(fd, zeros, FILL_BYTES, at) != (ssize_t)FILL_BYTES)
            die("no room for %lld bytes", (long long)FILE_BYTES);
    if (fsync(fd) != 0)
        die("fsync: %s", strerror(errno));
    free(zeros);
}

/* Until NS by now_ns(). */
static void
wait_until(uint64_t ns)
{
    const struct timespec at = {.tv_sec = (time_t)(ns / 1000000000U),
                                .tv_nsec = (long)(ns % 1000000000U)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

int
main(int argc, char **argv)
{
    uint32_t bytes = 4096;
    uint32_t group = 1;
    uint32_t seconds = 3;
    uint32_t rate = 0; /* as fast as it goes */

    for (int c; (c = getopt(argc, argv, "b:g:t:r:")) != -1;) {
        if (c == 'b')
            bytes = number(optarg, 1U << 24);
        else if (c == 'g')
            group = number(optarg, 1024);
        else if (c == 't')
            seconds = number(optarg, 3600);
        else if (c == 'r')
            rate = number(optarg, 1000000);
        else
            die(USAGE);
    }
    if (optind + 1 != argc || bytes == 0 || group == 0)
        die(USAGE);

    char *path = xasprintf("%s/rawdisk.tmp", argv[optind]);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        die("%s: %s", path, strerror(errno));
    unlink(path);
    free(path);
    fill_with_zeros(fd);

    size_t n = (size_t)bytes * group;
    char *block = xmalloc(n);
    struct samples s = {0};
    uint64_t began = now_ns();
    uint64_t end = began + (uint64_t)seconds * 1000000000U;
    uint64_t at = began;
    off_t offset = 0;
    fill_text(block, n, 1);
    while (at < end) {
        if (offset + (off_t)n > FILE_BYTES)
            offset = 0;
        if (pwrite(fd, block, n, offset) != (ssize_t)n || fdatasync(fd) != 0)
            die("write: %s", strerror(errno));
        offset += (off_t)n;
        uint64_t now = now_ns();
        samples_add(&s, (int64_t)(now - at));
        at = now;
        if (rate != 0) {
            wait_until(began + s.n * 1000000000U / rate);
            at = now_ns();
        }
    }
    double took = (double)(at - began) / 1e9;
    printf("{\"tool\":\"rawdisk\",\"bytes\":%u,\"group\":%u,"
           "\"records_per_s\":%.1f,\"mib_per_s\":%.1f,",
           bytes, group, (double)s.n * group / took,
           (double)s.n * (double)n / took / 1048576.0);
    samples_json(&s, "");
    printf("}\n");
    free(s.v);
    free(block);
    close(fd);
    return 0;
}
