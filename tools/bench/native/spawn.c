// As fast as the kernel lets anybody: creates two files and starts /bin/true with its
// output there, in a session of its own, N times one after another.
//
//     spawn N FOLDER
//
// Writes JSON: the seconds that all of it took, and its and its children's CPU seconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static double cpu(int who) {
    struct rusage used;
    getrusage(who, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    int count = atoi(argv[1]);
    double *calls = malloc(sizeof(double) * (size_t)count);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char *command[] = {"/bin/true", NULL};
    double begin = now(), self = cpu(RUSAGE_SELF), children = cpu(RUSAGE_CHILDREN);
    for (int i = 0; i < count; i++) {
        double at = now();
        int output[2];
        char path[4096];
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof path, "%s/%d.%s", argv[2], i, k ? "err" : "out");
            output[k] = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
            if (output[k] < 0) {
                return 1;
            }
        }
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, nothing, 0);
        posix_spawn_file_actions_adddup2(&actions, output[0], 1);
        posix_spawn_file_actions_adddup2(&actions, output[1], 2);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        pid_t child;
        if (posix_spawn(&child, command[0], &actions, &attributes, command, environ) != 0) {
            return 1;
        }
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        close(output[0]);
        close(output[1]);
        calls[i] = now() - at;
        waitpid(child, NULL, 0);
    }
    double seconds = now() - begin;
    qsort(calls, (size_t)count, sizeof(double), compare);
    printf("{\"seconds\": %.9f, \"call_p50\": %.9f, \"cpu\": %.9f, \"cpu_children\": %.9f}\n",
           seconds, calls[(count - 1) / 2], cpu(RUSAGE_SELF) - self,
           cpu(RUSAGE_CHILDREN) - children);
    return 0;
}
