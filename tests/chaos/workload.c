// What the pods of the chaos test run: one program, marked by its arguments.
//
//   workload KIND POD CONTAINER VERSION
//
// Each run tells of itself in a volume that all runs share: a line `start` or `end`
// with the boot clock's nanoseconds, and `overlap` where another run of the same
// container is still there. A lock tells that: it is held by all processes of a run
// and by the kernel's word goes with the last of them, however they die.
//
// Static, and without a libc's locales or anything else that it would have to find.

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *container, *version;
static int journal;

static long long boot_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// One write: lines of several runs do not mix.
static void tell(const char *what) {
    char line[256];
    int length = snprintf(line, sizeof line, "%s %s %s %lld\n", what, container, version, boot_ns());
    if (write(journal, line, length) != length) _exit(71);
}

static int open_in_volume(const char *pod, const char *suffix, int flags) {
    char path[256];
    snprintf(path, sizeof path, "/journal/%s.%s", pod, suffix);
    int fd = open(path, flags | O_CREAT, 0666);
    if (fd < 0) _exit(72);
    return fd;
}

static void end_in_order(int signal) {
    (void)signal;
    tell("end");
    _exit(0);
}

static void pause_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0) {}
}

static void wait_for_signals(void) {
    for (;;) pause();
}

// Children that end, and orphans that come to be its own.
static void fork_for_ever(void) {
    for (unsigned turn = 0;; turn++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTERM, SIG_DFL);
            if (turn % 2 && fork() != 0) _exit(0);
            if (turn % 4 == 3) setsid();
            pause_ms(20 + turn % 5 * 40);
            _exit(0);
        }
        pause_ms(25);
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
}

static void log_for_ever(void) {
    static char lines[16384];
    memset(lines, '.', sizeof lines);
    for (size_t at = 79; at < sizeof lines; at += 80) lines[at] = '\n';
    for (;;) {
        if (write(1, lines, sizeof lines) < 0) _exit(73);
        pause_ms(10);
    }
}

// What ends without its terminal, or once that has hung up.
static void use_terminal(void) {
    int terminal = open("/dev/tty", O_WRONLY | O_CLOEXEC);
    if (terminal < 0 || !isatty(0) || !isatty(1) || !isatty(2)) _exit(74);
    for (;;) {
        if (write(1, "to what it has\n", 15) < 0) _exit(75);
        if (write(terminal, "to what it is under\n", 20) < 0) _exit(75);
        pause_ms(10);
    }
}

// Orphans, which are the init's to reap.
static void orphan_for_ever(void) {
    for (unsigned turn = 0;; turn++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTERM, SIG_DFL);
            if (fork() != 0) _exit(0);
            if (turn % 2) setsid();
            pause_ms(20 + turn % 5 * 40);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        pause_ms(25);
    }
}

static void crash(void) {
    pause_ms(30 + boot_ns() / 1000 % 300);
    if (boot_ns() / 1000 % 2) abort();
    _exit(3);
}

int main(int argc, char **argv) {
    if (argc != 5) return 64;
    const char *kind = argv[1];
    char lock[128];
    container = argv[3];
    version = argv[4];
    journal = open_in_volume(argv[2], "log", O_WRONLY | O_APPEND | O_CLOEXEC);
    snprintf(lock, sizeof lock, "%s.lock", container);
    int is_alone = flock(open_in_volume(argv[2], lock, O_RDWR), LOCK_EX | LOCK_NB) == 0;
    signal(SIGTERM, strcmp(kind, "stubborn") ? end_in_order : SIG_IGN);
    tell(is_alone ? "start" : "overlap");

    // Whatever launches it, it does the same.
    if (!strncmp(kind, "oci-", 4)) kind += 4;
    if (!strcmp(kind, "crashing")) crash();
    if (!strcmp(kind, "forking")) fork_for_ever();
    if (!strcmp(kind, "logging")) log_for_ever();
    if (!strcmp(kind, "terminal")) use_terminal();
    if (!strcmp(kind, "init")) orphan_for_ever();
    if (!strcmp(kind, "once")) {
        pause_ms(boot_ns() / 1000 % 400);
        tell("end");
        return 0;
    }
    wait_for_signals();
}
