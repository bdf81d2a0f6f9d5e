// A job that writes as it is told, and costs nothing else:
//
//     emit stamps N MS GATE   N times the clock (CLOCK_REALTIME, ns), one every MS ms
//     emit lines N RATE GATE  N lines of 16 bytes, RATE a second; 0 is as fast as can be
//
// Writes "ready" first, and begins when GATE exists. At its end it writes to standard
// error what its lines have taken, in ns: CPU time and time.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void sleep_until(long long ns) {
    struct timespec at = {ns / 1000000000LL, ns % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
    }
}

static void put(const char *text, size_t size) {
    if (write(STDOUT_FILENO, text, size) != (ssize_t)size) {
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        return 2;
    }
    long count = atol(argv[2]);
    long pace = atol(argv[3]);
    put("ready\n", 6);
    for (int tries = 0; access(argv[4], F_OK) != 0; tries++) {
        if (tries == 60000) {
            return 1;  // nobody came
        }
        usleep(1000);
    }
    char line[32];
    long long cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    long long begin = now(CLOCK_MONOTONIC);
    if (strcmp(argv[1], "stamps") == 0) {
        for (long i = 0; i < count; i++) {
            sleep_until(begin + i * pace * 1000000LL);
            put(line, (size_t)sprintf(line, "%lld\n", now(CLOCK_REALTIME)));
        }
    } else {
        memset(line, 'x', 15);
        line[15] = '\n';
        // A thousand times a second it catches up with its rate: a sleep after each line
        // could not keep it.
        long long step = pace > 0 ? (pace + 999) / 1000 : count;
        for (long i = 0; i < count;) {
            for (long until = i + step < count ? i + step : count; i < until; i++) {
                put(line, 16);
            }
            if (pace > 0) {
                sleep_until(begin + i * (1000000000LL / pace));
            }
        }
    }
    fprintf(stderr, "%lld %lld\n", now(CLOCK_PROCESS_CPUTIME_ID) - cpu,
            now(CLOCK_MONOTONIC) - begin);
    return 0;
}
