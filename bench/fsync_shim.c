/* Stands before fsync and fdatasync of a process (LD_PRELOAD): makes them slow, holds them back, and writes them down.

   BENCH_FSYNC_MS    how long each takes at least, in milliseconds
   BENCH_FSYNC_GATE  while there is a FIFO at this path, each waits for a byte in it
   BENCH_FSYNC_LOG   a line for each into this file: "held FILE" as it comes, "done FILE" once the file is on the disk

   Compiled by bench/shim.py, for the benchmarks and the tests; never a part of Ringback. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void note(const char *word, int fd) {
    const char *path = getenv("BENCH_FSYNC_LOG");
    char link[64], file[2048] = "", line[2200];
    int log, size;
    if (!path || (log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, file, sizeof file - 1);
    file[size > 0 ? size : 0] = 0;
    size = snprintf(line, sizeof line, "%s %s\n", word, file);
    if (write(log, line, size) != size) abort();
    close(log);
}

static void wait_at_gate(void) {
    const char *path = getenv("BENCH_FSYNC_GATE");
    char byte;
    int gate;
    if (!path || (gate = open(path, O_RDWR | O_CLOEXEC)) < 0) return; /* there is none: it is open */
    if (read(gate, &byte, 1) != 1) abort();
    close(gate);
}

static int slowly(const char *name, int fd) {
    const char *ms = getenv("BENCH_FSYNC_MS");
    double end = now() + (ms ? atof(ms) / 1e3 : 0);
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result;
    note("held", fd);
    wait_at_gate();
    result = real(fd);
    double left = end - now();
    if (left > 0) {
        struct timespec t = {(time_t)left, (long)((left - (time_t)left) * 1e9)};
        nanosleep(&t, NULL);
    }
    note("done", fd);
    return result;
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
