/* Owns one job's life: starts its command, outlives whoever asked for it, records how it
 * ended, and leaves none of its processes behind.
 *
 *     jobby-launcher REPORT RECORD FOLDER OUTCOME WATCH1 WATCH2 \
 *                    MAX_OUTPUT_BYTES TIMEOUT_MS MARK CGROUP CWD COMMAND [ARGUMENT]...
 *
 * The first six are descriptors, inherited; -1 is none. It opens nothing of its own but what
 * lies below them, CGROUP, and /proc. Standard input, output and error are the job's.
 *
 *   REPORT   a pipe: `struct report` once the command runs or cannot, later the outcome;
 *            without a RECORD, the job ends when nobody has its other end any more
 *   RECORD   the job's record; locked (F_SETLK) for as long as this process lives
 *   FOLDER   the folder of OUTCOME, which is renamed there from outcome.new to outcome
 *   OUTCOME  outcome.new, OUTCOME_BYTES long already, so that a full disk cannot lose it
 *   WATCH…   the folders of standard output and error, to be told when they are written
 *   CGROUP   the path of a cgroup v2 folder to make for the job alone, and to remove; "" is none
 *
 * The descriptors are 3 and on without a gap; what else is inherited is closed. It is to be
 * started as the leader of a session. Signals ask it to act: ASK passes SIGTERM on to the job,
 * KILL kills all of it. Every other signal is blocked that the C library lets be: musl has 32 to 34
 * for itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The numbers that _launched.py (signals) and _launcher.py (steps) of jobby_core know too.
 * Real-time signals by number: the C libraries disagree about SIGRTMIN. */
enum { ASK = 40, KILL = 41, WRITTEN = 42, GONE = 43 };
enum { OUTCOME_BYTES = 512 };
enum step { STARTED, RECORD_LOCK, SUBREAPER, PROC, WATCH, FORK, CHDIR, EXEC };

struct report {
    int32_t step;
    int32_t error;
    int32_t pid;
};

/* How long to let outputs grow between two looks, at most; and how much a job may be
 * expected to write in a millisecond, so that one near its limit is looked at in time. */
enum { PACE_MS = 100, BYTES_A_MS = 4 << 20 };

/* How many that have ended are reaped before anything else is looked at: a job may make them
 * faster than they are reaped, for ever. */
enum { REAPED_AT_ONCE = 256 };

struct launcher {
    int report, record, folder, outcome, watches[2];
    int cgroup; /* the job's own, or -1 */
    int proc;   /* the folder, so that the job cannot take it away */
    uint64_t max_output;
    int64_t timeout_ms;
    pid_t pid, main;
    int64_t started_us;
    const char *cause; /* why it was killed, or "" */
    bool asked, killed;
    bool written;       /* something may have been written since the last look */
    uint64_t seen;      /* the outputs' size at the last look */
    int64_t look_at_ms; /* when to look at the outputs again; 0 is when told to */
    const char *cgroup_path;
    /* What the child that becomes the command needs, and tells: it shares this memory. */
    const char *cwd;
    char **command;
    sigset_t mask;
    volatile bool gave_up;
};

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* not the wall clock, which may jump */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t now_ms(void) { return now_us() / 1000; }

static void write_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t count = write(fd, at, size);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return; /* nobody listens any more; SIGPIPE is blocked */
        at += count;
        size -= (size_t)count;
    }
}

static void report(int fd, enum step step, int error, pid_t pid) {
    struct report message = {(int32_t)step, error, pid};
    write_all(fd, &message, sizeof message);
}

/* Writes the whole of OUTCOME, padded, in one go: it lies within one sector. */
static bool put_outcome(int fd, const char *text) {
    char line[OUTCOME_BYTES];
    size_t length = strlen(text);
    memset(line, ' ', sizeof line);
    memcpy(line, text, length < sizeof line ? length : sizeof line - 1);
    line[sizeof line - 1] = '\n';
    return pwrite(fd, line, sizeof line, 0) == (ssize_t)sizeof line;
}

static void note_running(const struct launcher *self, pid_t pid) {
    char text[64];
    if (self->outcome < 0) return;
    snprintf(text, sizeof text, "{\"running\": %d}", pid);
    put_outcome(self->outcome, text);
}

/* Before it is told: who started this may be dead, and then the outcome alone says that the
 * command never ran. */
_Noreturn static void give_up(const struct launcher *self, enum step step) {
    int error = errno;
    put_outcome(self->outcome, "");
    report(self->report, step, error, 0);
    _exit(1);
}

/* --- starting ----------------------------------------------------------- */

/* Takes the record's lock. It tells whoever reads the record that this job is alive, and by
 * which process (F_GETLK). An unlinked record has been given up meanwhile by somebody who
 * held the lock: then this job must not start. */
static void lock_record(const struct launcher *self) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat status;
    if (self->record < 0) return;
    if (fcntl(self->record, F_SETLK, &lock) < 0 || fstat(self->record, &status) < 0)
        give_up(self, RECORD_LOCK);
    if (status.st_nlink == 0) {
        errno = ESTALE;
        give_up(self, RECORD_LOCK);
    }
}

/* Asks to be told of the next write below the outputs' folders: dnotify, once (F_NOTIFY in
 * fcntl(2)). Not inotify, whose instances are limited to some 128 a user. */
static bool arm(const struct launcher *self) {
    for (int i = 0; i < 2; i++) {
        int fd = self->watches[i];
        if (fd >= 0 && (fcntl(fd, F_SETSIG, WRITTEN) < 0 || fcntl(fd, F_NOTIFY, DN_MODIFY) < 0))
            return false;
    }
    return true;
}

/* Not inlined: its frame lies below the one it was called from, which it has no business in. */
_Noreturn __attribute__((noinline)) static void become(struct launcher *self) {
    enum step step = EXEC;
    setpgid(0, 0); /* a group of its own: signals to it don't reach the launcher */
    /* Killing the launcher is killing the job: nobody would watch over it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self->pid) _exit(1); /* it was killed just before */
    if (*self->cwd && chdir(self->cwd) < 0) step = CHDIR;
    if (step == EXEC) {
        sigprocmask(SIG_SETMASK, &self->mask, NULL);
        execvp(self->command[0], self->command);
    }
    self->gave_up = true; /* before: with nobody left to report to, SIGPIPE ends this */
    report(self->report, step, errno, 0);
    _exit(1);
}

static void make_cgroup(struct launcher *self) {
    self->cgroup = -1;
    if (!*self->cgroup_path || mkdir(self->cgroup_path, 0755) < 0) return;
    self->cgroup = open(self->cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->cgroup < 0) rmdir(self->cgroup_path);
}

static int remove_folder(const char *path, const struct stat *status, int kind, struct FTW *at) {
    (void)status, (void)at;
    if (kind == FTW_DP) rmdir(path);
    return 0;
}

static void remove_cgroup(struct launcher *self) {
    if (self->cgroup < 0) return;
    close(self->cgroup);
    self->cgroup = -1;
    /* The job may have made others below it, as one does that runs jobs itself. */
    if (rmdir(self->cgroup_path) < 0) nftw(self->cgroup_path, remove_folder, 64, FTW_DEPTH | FTW_PHYS);
}

/* clone3(2) as vfork(2) does it, with all memory shared, this very stack too. So it is no call of
 * the C library, which would return in both, and what calls it must not return in the child. */
static inline long clone_in_place(struct clone_args *args) {
#if defined(__x86_64__)
    long result = SYS_clone3;
    __asm__ volatile("syscall" : "+a"(result) : "D"(args), "S"(sizeof *args) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long result __asm__("x0") = (long)args;
    register long size __asm__("x1") = sizeof *args, number __asm__("x8") = SYS_clone3;
    __asm__ volatile("svc 0" : "+r"(result) : "r"(size), "r"(number) : "memory");
#endif
    return result;
}

/* As vfork(2): this returns when the child has executed the command or given up. The child is
 * made in its cgroup: to move it there later takes the kernel milliseconds. Where that is not
 * allowed, there is no cgroup. */
static pid_t split(struct launcher *self) {
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD};
    if (self->cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP; /* Linux 5.7 */
        args.cgroup = (unsigned)self->cgroup;
        long pid = clone_in_place(&args);
        if (pid == 0) become(self);
        if (pid > 0) return (pid_t)pid;
        remove_cgroup(self);
    }
    pid_t pid = vfork();
    if (pid == 0) become(self);
    return pid;
}

static void start(struct launcher *self) {
    make_cgroup(self);
    note_running(self, 0); /* before: from here on a record without an end means a lost job */
    self->pid = getpid();
    self->started_us = now_us();
    self->main = split(self);
    if (self->main < 0) give_up(self, FORK);
    if (self->gave_up) {
        waitpid(self->main, NULL, 0); /* until then its cgroup may count as used */
        remove_cgroup(self);
        put_outcome(self->outcome, ""); /* as in give_up */
        _exit(1);
    }
    note_running(self, self->main);
    report(self->report, STARTED, 0, self->main);
}

/* --- killing ------------------------------------------------------------ */

/* Kills each direct child, and counts them. Nobody else reaps them, so none of the ids can be a
 * stranger's. Tells whether all it saw were refused, because they run under another user. */
static bool are_children_refused(int children, int *seen) {
    char text[4096];
    ssize_t count;
    pid_t pid = 0;
    int killed = 0, refused = 0;
    *seen = 0;
    lseek(children, 0, SEEK_SET);
    while ((count = read(children, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < count; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
            } else if (pid > 0) {
                ++*seen;
                if (kill(pid, SIGKILL) == 0)
                    killed++;
                else if (errno == EPERM)
                    refused++;
                pid = 0;
            }
        }
    return killed == 0 && refused > 0;
}

static void kill_cgroup(const struct launcher *self) {
    if (self->cgroup < 0) return;
    int fd = openat(self->cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC); /* Linux 5.14 */
    if (fd < 0) return;
    (void)!write(fd, "1", 1);
    close(fd);
}

/* Reaps those that have ended, so many at most; tells whether a child may be left. */
static bool is_any_left(int most) {
    pid_t pid = 1;
    while (pid > 0 && most-- > 0) pid = waitpid(-1, NULL, WNOHANG);
    return pid >= 0;
}

/* Opens the list of this process's children (proc_pid_task_children(5)): only where one is left
 * at the end, since the kernel takes long to make what leads there and to clear it away. Should
 * the whole system have no descriptor, somebody's end will bring one. */
static int open_children(const struct launcher *self) {
    const struct timespec rest = {.tv_nsec = 10000000};
    int children;
    while ((children = openat(self->proc, "thread-self/children", O_RDONLY | O_CLOEXEC)) < 0 &&
           is_any_left(REAPED_AT_ONCE))
        nanosleep(&rest, NULL);
    return children;
}

/* Kills until nothing is left. What leaves the group or the session, or forks twice, has this
 * process for its parent once its own is dead: it is a subreaper (prctl(2)). So where no child
 * is left, nobody is, and the kernel need not be troubled with the cgroup. */
static void kill_the_rest(const struct launcher *self) {
    if (!is_any_left(REAPED_AT_ONCE)) return;
    close(STDIN_FILENO); /* so that one descriptor is free, whatever RLIMIT_NOFILE is */
    kill_cgroup(self);
    int children = open_children(self), seen = REAPED_AT_ONCE;
    /* What may not be killed isn't waited for. More than once, because the list may leave one
     * out while others end (proc_pid_task_children(5)). */
    for (int refusals = 0; refusals < 3 && is_any_left(seen + 1);) {
        if (are_children_refused(children, &seen)) { /* those that were just inherited are among them */
            refusals++;
            continue;
        }
        refusals = 0;
        siginfo_t info = {0};
        waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
    }
}

static bool main_has_ended(const struct launcher *self, siginfo_t *info) {
    memset(info, 0, sizeof *info);
    return waitid(P_PID, (id_t)self->main, info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info->si_pid == self->main;
}

static void kill_job(struct launcher *self, const char *cause) {
    siginfo_t info;
    if (main_has_ended(self, &info)) return; /* by itself: the kill came too late */
    if (!*self->cause) self->cause = cause;
    self->killed = true;
    kill(-self->main, SIGKILL);
    kill(self->main, SIGKILL); /* which may have left its group */
}

static void ask_job(struct launcher *self) {
    siginfo_t info;
    if (main_has_ended(self, &info)) return;
    if (!*self->cause) self->cause = "stopped";
    self->asked = true;
    kill(-self->main, SIGTERM);
    if (getpgid(self->main) != self->main) kill(self->main, SIGTERM);
}

/* --- whoever started it ---------------------------------------------------- */

/* Without a record nobody else can ever reach the job: it must not outlive them. */
static bool is_starter_gone(const struct launcher *self) {
    struct pollfd report = {.fd = self->report};
    return self->record < 0 && poll(&report, 1, 0) == 1 && report.revents & POLLERR;
}

/* Asks for a signal when something happens to the pipe (O_ASYNC in fcntl(2)). */
static void watch_starter(struct launcher *self) {
    if (self->record >= 0) return;
    fcntl(self->report, F_SETOWN, self->pid);
    fcntl(self->report, F_SETSIG, GONE);
    fcntl(self->report, F_SETFL, O_WRONLY | O_ASYNC);
    if (is_starter_gone(self)) kill_job(self, "stopped"); /* before it was asked for */
}

/* --- watching the outputs ------------------------------------------------ */

static uint64_t size_of(int fd) {
    struct stat status;
    return fstat(fd, &status) < 0 || status.st_size < 0 ? 0 : (uint64_t)status.st_size;
}

static uint64_t outputs_size(void) { return size_of(STDOUT_FILENO) + size_of(STDERR_FILENO); }

/* Whether an output's next byte has no room. While its last block is not full it has, however
 * full the disk: a neighbour that fills it does not harm who writes no more than that. */
static bool has_no_room(int fd) {
    struct statvfs disk;
    if (fstatvfs(fd, &disk) < 0 || disk.f_blocks == 0) return false; /* unlimited tmpfs: 0 */
    if ((geteuid() == 0 ? disk.f_bfree : disk.f_bavail) > 0) return false;
    /* Some tell more than they allocate at a time, NFS for one; less is rare. */
    uint64_t block = disk.f_frsize > 0 && disk.f_frsize < 4096 ? disk.f_frsize : 4096;
    return size_of(fd) % block == 0;
}

static bool is_cut_short(int fd) { return size_of(fd) > 0 && has_no_room(fd); }

static bool disk_is_full(void) { return is_cut_short(STDOUT_FILENO) || is_cut_short(STDERR_FILENO); }

/* As far as can be told at the end: who has written nothing to standard output may have tried
 * to, whatever it has said on standard error. An empty standard error tells nothing. */
static bool disk_was_full(void) {
    return has_no_room(STDOUT_FILENO) || is_cut_short(STDERR_FILENO);
}

/* Looks at what was written, then waits a little before it asks to be told again: a watch
 * that stays makes each tiny write of the job dearer. */
static void look(struct launcher *self) {
    int64_t pace = PACE_MS;
    self->written = false;
    self->seen = outputs_size();
    if (self->max_output > 0) {
        if (self->seen > self->max_output) {
            kill_job(self, "output_limit");
            return;
        }
        uint64_t left = (self->max_output - self->seen) / BYTES_A_MS;
        if (left < PACE_MS) pace = left < 1 ? 1 : (int64_t)left;
    }
    if (disk_is_full()) {
        kill_job(self, "disk_full");
        return;
    }
    self->look_at_ms = now_ms() + pace;
}

/* --- the end ------------------------------------------------------------- */

static void record(const struct launcher *self, const siginfo_t *info) {
    char text[OUTCOME_BYTES];
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    bool exited = info->si_code == CLD_EXITED;
    snprintf(text, sizeof text,
             "{\"version\": 1, \"pid\": %d, \"code\": %d, \"signal\": %d, \"asked\": %s, "
             "\"killed\": %s, \"cause\": \"%s\", \"disk_full\": %s, \"elapsed_us\": %lld, "
             "\"user_us\": %lld, \"system_us\": %lld, \"max_rss_kib\": %ld, "
             "\"stdout_bytes\": %llu, \"stderr_bytes\": %llu}",
             self->main, exited ? info->si_status : -1, exited ? 0 : info->si_status,
             self->asked ? "true" : "false", self->killed ? "true" : "false", self->cause,
             disk_was_full() ? "true" : "false", (long long)(now_us() - self->started_us),
             (long long)used.ru_utime.tv_sec * 1000000 + used.ru_utime.tv_usec,
             (long long)used.ru_stime.tv_sec * 1000000 + used.ru_stime.tv_usec, used.ru_maxrss,
             (unsigned long long)size_of(STDOUT_FILENO), (unsigned long long)size_of(STDERR_FILENO));
    if (self->folder >= 0 && put_outcome(self->outcome, text)) {
        /* To the disk before it gets its name: half an outcome is never seen. */
        fsync(self->outcome);
        (void)!renameat(self->folder, "outcome.new", self->folder, "outcome");
        fsync(self->folder);
    }
    write_all(self->report, text, strlen(text));
}

/* Waits for the main process to end; acts on what it is told meanwhile. */
static void watch_over(struct launcher *self, const sigset_t *signals, siginfo_t *info) {
    const struct timespec at_once = {0};
    sigset_t requests = *signals;
    sigdelset(&requests, SIGCHLD);
    while (!main_has_ended(self, info)) {
        int64_t now = now_ms(), until = INT64_MAX;
        if (self->timeout_ms > 0) until = (self->started_us + 999) / 1000 + self->timeout_ms;
        if (until <= now) {
            self->timeout_ms = 0;
            kill_job(self, "timed_out");
            continue;
        }
        if (self->look_at_ms && self->look_at_ms <= now) {
            self->look_at_ms = 0;
            /* Arm, then compare: what was written in between would otherwise be missed. */
            if (!arm(self) || outputs_size() != self->seen) self->written = true;
        }
        if (self->written && !self->look_at_ms) {
            look(self);
            continue;
        }
        if (self->look_at_ms && self->look_at_ms < until) until = self->look_at_ms;
        struct timespec rest = {(time_t)((until - now) / 1000), (until - now) % 1000 * 1000000};
        /* The lowest number comes first (signal(7)): one SIGCHLD after another would hide them. */
        int signum = sigtimedwait(&requests, NULL, &at_once);
        if (signum < 0)
            signum = until == INT64_MAX ? sigwaitinfo(signals, NULL)
                                        : sigtimedwait(signals, NULL, &rest);
        if (signum == ASK) ask_job(self);
        if (signum == KILL) kill_job(self, "stopped");
        /* SIGIO comes for both where their own signals cannot be queued (fcntl(2), F_SETSIG). */
        if ((signum == GONE || signum == SIGIO) && is_starter_gone(self)) kill_job(self, "stopped");
        if (signum == WRITTEN || signum == SIGIO) self->written = true;
        if (signum == SIGCHLD) {
            /* Descendants that were inherited and ended by themselves. */
            siginfo_t each = {0};
            int reaped = 0;
            while (reaped < REAPED_AT_ONCE &&
                   waitid(P_ALL, 0, &each, WEXITED | WNOHANG | WNOWAIT) == 0 && each.si_pid > 0 &&
                   each.si_pid != self->main) {
                waitpid(each.si_pid, NULL, 0);
                each.si_pid = 0;
                reaped++;
            }
            if (reaped == REAPED_AT_ONCE) raise(SIGCHLD); /* there may be more */
        }
    }
}

/* Returns the environment with MARK in it. An older one is a job's that runs jobs itself. */
static void mark(char **environment, char **marked, char *text) {
    size_t name = strcspn(text, "=") + 1;
    for (; *environment; environment++)
        if (strncmp(*environment, text, name) != 0) *marked++ = *environment;
    *marked++ = text;
    *marked = NULL;
}

/* What whoever started this had open without close-on-exec is neither its nor the job's. */
static void close_from(unsigned first) {
    if (syscall(SYS_close_range, first, ~0U, 0) == 0) return; /* Linux 5.9 */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    for (rlim_t fd = first; fd < limit.rlim_max && fd < limit.rlim_cur; fd++) close((int)fd);
}

/* And that of this PID namespace: by the ids of another one, strangers would be killed. */
static bool is_proc(int folder) {
    struct statfs system;
    char self[16] = "";
    if (fstatfs(folder, &system) < 0) return false;
    bool ours = system.f_type == PROC_SUPER_MAGIC &&
                readlinkat(folder, "self", self, sizeof self - 1) > 0 && atoi(self) == getpid();
    errno = ENOENT; /* should it be an empty folder, or another namespace's */
    return ours;
}

static bool to_number(const char *text, int64_t *number) {
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return *text && !*end && errno == 0;
}

int main(int argc, char **argv) {
    struct launcher self = {.cause = ""};
    int64_t numbers[8];
    sigset_t signals;
    siginfo_t info;
    if (argc < 13) return 2; /* by hand: there is nobody to report to */
    size_t variables = 0;
    while (environ[variables]) variables++;
    char *marked[variables + 2]; /* at most as large as what lies on the stack already */
    for (int i = 0; i < 8; i++)
        if (!to_number(argv[i + 1], &numbers[i])) return 2;
    int last = STDERR_FILENO;
    for (int i = 0; i < 6; i++)
        if (numbers[i] > 2) {
            fcntl((int)numbers[i], F_SETFD, FD_CLOEXEC);
            if (numbers[i] > last) last = (int)numbers[i];
        }
    close_from((unsigned)last + 1);
    self.report = (int)numbers[0];
    self.record = (int)numbers[1];
    self.folder = (int)numbers[2];
    self.outcome = (int)numbers[3];
    self.watches[0] = (int)numbers[4];
    self.watches[1] = (int)numbers[5];
    self.max_output = (uint64_t)numbers[6];
    self.timeout_ms = numbers[7];
    self.cgroup_path = argv[10];
    self.cwd = argv[11];
    self.command = argv + 12;
    signal(SIGCHLD, SIG_DFL); /* inherited as ignored, it would lose the exit status (wait(2)) */
    sigfillset(&signals);
    sigprocmask(SIG_BLOCK, &signals, &self.mask);
    lock_record(&self);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) give_up(&self, SUBREAPER);
    self.proc = open("/proc", O_PATH | O_CLOEXEC);
    if (self.proc < 0 || !is_proc(self.proc)) give_up(&self, PROC);
    mark(environ, marked, argv[9]);
    environ = marked;
    if (!arm(&self)) give_up(&self, WATCH);
    start(&self);
    watch_starter(&self);
    (void)!chdir("/"); /* keep no folder of the caller's busy */
    watch_over(&self, &signals, &info);
    /* The main process is a zombie still: its group cannot be anybody else's. */
    kill(-self.main, SIGKILL);
    kill_the_rest(&self);
    remove_cgroup(&self);
    record(&self, &info);
    return 0;
}
