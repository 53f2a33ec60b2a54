/* What a process finds around it and what it was made with, a line each: a key,
 * a colon, a value. Where the value is the kernel's answer to an attempt, the
 * attempt is harmless. Then, told "and wait", it waits to be looked at from
 * outside, until SIGTERM, and becomes the program that is named after that. Told
 * "fault", it ends by one; told "names", it tells the names of what can be shared
 * with others, and tries nothing. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

extern char **environ;

static void tell_number(const char *key, long number) {
  if (number < 0) printf("%s: %s\n", key, strerrorname_np(errno));
  else printf("%s: %ld\n", key, number);
}

/* The first line of a file. */
static void tell_file(const char *key, const char *path) {
  char line[4096];
  FILE *file = fopen(path, "r");
  if (!file) {
    printf("%s: %s\n", key, strerrorname_np(errno));
    return;
  }
  if (!fgets(line, sizeof line, file)) *line = 0;
  line[strcspn(line, "\n")] = 0;
  printf("%s: %s\n", key, line);
  fclose(file);
}

static void command(int count, char **arguments) {
  char path[4096];
  printf("argv:");
  for (int at = 0; at < count; at++) printf(" %s", arguments[at]);
  printf("\n");
  for (char **entry = environ; *entry; entry++) {
    int name = strcspn(*entry, "=");
    printf("env %.*s: %s\n", name, *entry, *entry + name + 1);
  }
  printf("cwd: %s\n", getcwd(path, sizeof path) ? path : strerrorname_np(errno));
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  printf("exe: %.*s\n", length < 0 ? 0 : (int)length, path);
  tell_file("comm", "/proc/self/comm");
}

static void process(void) {
  printf("pid: %d\nparent: %d\nprocess group: %d\nsession: %d\n", getpid(), getppid(), getpgrp(), getsid(0));
  int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
  printf("controlling terminal: %s\n", terminal < 0 ? strerrorname_np(errno) : "one");
  if (terminal >= 0) close(terminal);
  mode_t mask = umask(0);
  umask(mask);
  printf("umask: %03o\n", mask);
  printf("nice: %d\n", getpriority(PRIO_PROCESS, 0));
  tell_number("scheduling policy", syscall(SYS_sched_getscheduler, 0));
  tell_number("priority of input and output", syscall(SYS_ioprio_get, 1, 0));
  tell_number("personality", personality(0xffffffff));
  tell_number("dumpable", prctl(PR_GET_DUMPABLE));
  int parent_death_signal = -1;
  prctl(PR_GET_PDEATHSIG, &parent_death_signal);
  printf("parent-death signal: %d\n", parent_death_signal);
  int is_subreaper = -1;
  prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper);
  printf("subreaper: %d\n", is_subreaper);
  tell_number("securebits", prctl(PR_GET_SECUREBITS));
  tell_number("keeps capabilities", prctl(PR_GET_KEEPCAPS));
  tell_number("timer slack", prctl(PR_GET_TIMERSLACK));
  tell_file("oom_score_adj", "/proc/self/oom_score_adj");
  tell_file("coredump_filter", "/proc/self/coredump_filter");
}

static void status(void) {
  static const char *const fields[] = {"Groups:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigCgt:", "Threads:",
                                       "Cpus_allowed_list:", "Mems_allowed_list:", "Speculation_Store_Bypass:",
                                       "SpeculationIndirectBranch:", "CoreDumping:", "THP_enabled:"};
  char line[4096];
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file)) {
    unsigned long long signals;
    for (size_t at = 0; at < sizeof fields / sizeof *fields; at++)
      if (strncmp(line, fields[at], strlen(fields[at])) == 0) fputs(line, stdout);
    /* Without 32 and 33: libc's own, which its posix_spawn(3) leaves ignored. */
    if (sscanf(line, "SigIgn: %llx", &signals) == 1) printf("SigIgn: %016llx\n", signals & ~0x180000000ULL);
  }
  if (file) fclose(file);
}

static void limits(void) {
  static const char *const names[] = {"cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
                                      "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
  for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
    struct rlimit limit;
    getrlimit(at, &limit);
    printf("rlimit %s: %lld %lld\n", names[at], (long long)limit.rlim_cur, (long long)limit.rlim_max);
  }
}

static void host(void) {
  struct utsname names;
  uname(&names);
  printf("hostname: %s\ndomainname: %s\n", names.nodename, names.domainname);
  tell_file("sysctl net.ipv4.ip_unprivileged_port_start", "/proc/sys/net/ipv4/ip_unprivileged_port_start");
  tell_file("sysctl net.ipv4.ping_group_range", "/proc/sys/net/ipv4/ping_group_range");
  int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct if_nameindex *all = if_nameindex();
  for (struct if_nameindex *each = all; each && each->if_name; each++) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, each->if_name, sizeof request.ifr_name - 1);
    ioctl(socket_, SIOCGIFFLAGS, &request);
    printf("interface %s: %s\n", each->if_name, request.ifr_flags & IFF_UP ? "up" : "down");
  }
  if (all) if_freenameindex(all);
  close(socket_);
}

static void namespaces(void) {
  static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/self/ns/%s", names[at]);
    ssize_t length = readlink(path, target, sizeof target);
    printf("namespace %s: %.*s\n", names[at], length < 0 ? 0 : (int)length, target);
  }
}

/* Which keyring it is, and whose. No default profile of seccomp lets one ask. */
static void keyring(void) {
  char about[256];
  long id = syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3 /* the session's */, 0);
  tell_number("session keyring", id);
  if (id < 0) return;
  long length = syscall(SYS_keyctl, 6 /* KEYCTL_DESCRIBE */, id, about, sizeof about);
  char *name = length > 0 ? strrchr(about, ';') : NULL;
  if (name) printf("session keyring's owner and permissions: %.*s\n", (int)(name - about), about);
}

static void cgroups(void) {
  char line[4096];
  FILE *file = fopen("/proc/self/cgroup", "r");
  while (file && fgets(line, sizeof line, file)) {
    char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
    if (path) printf("cgroup %.*s: %s", (int)(path - names - 1), names + 1, path + 1);
  }
  if (file) fclose(file);
}

/* Options of a file system, but for those that only say where the host keeps it
 * and what its kernel does by default. */
static void tell_super_options(const char *kind, char *options) {
  int is_overlay = strcmp(kind, "overlay") == 0;
  for (char *each = strtok(options, ",\n"); each; each = strtok(NULL, ",\n")) {
    if (is_overlay && strstr(each, "dir=")) continue;
    if (is_overlay && strstr(each, "volatile")) printf(" volatile");
    else if (strcmp(each, "inode64") && (!is_overlay || strlen(each) == 2)) printf(" %s", each);
  }
}

/* A node's file system is the host's and says nothing; that it opens is all. */
static void tell_mount(const char *path, const char *flags, char *propagation, const char *kind, char *options) {
  struct stat about;
  printf("mount %s:", path);
  if (lstat(path, &about) == 0 && S_ISCHR(about.st_mode)) {
    printf(" node %u:%u%s\n", major(about.st_rdev), minor(about.st_rdev), strstr(flags, "nodev") ? " nodev" : "");
    return;
  }
  printf(" %s %s;", kind, flags);
  tell_super_options(kind, options);
  for (char *each = strtok(propagation, " "); each; each = strtok(NULL, " "))
    printf(" %.*s", (int)strcspn(each, ":"), each);
  printf("\n");
}

static void mounts(void) {
  char line[8192];
  FILE *file = fopen("/proc/self/mountinfo", "r");
  while (file && fgets(line, sizeof line, file)) {
    char path[4096], flags[256], propagation[256] = "", kind[64], options[4096];
    char *rest = strstr(line, " - ");
    int at = 0;
    if (!rest || sscanf(line, "%*s %*s %*s %*s %4095s %255s%n", path, flags, &at) != 2) continue;
    *rest = 0;
    if (at < rest - line) snprintf(propagation, sizeof propagation, "%s", line + at);
    if (sscanf(rest + 3, "%63s %*s %4095s", kind, options) == 2) tell_mount(path, flags, propagation, kind, options);
  }
  if (file) fclose(file);
}

static void tell_node(const char *path) {
  struct stat about;
  char target[4096];
  if (lstat(path, &about) != 0) {
    printf("file %s: %s\n", path, strerrorname_np(errno));
    return;
  }
  printf("file %s:", path);
  if (S_ISLNK(about.st_mode)) {
    ssize_t length = readlink(path, target, sizeof target);
    printf(" link to %.*s\n", length < 0 ? 0 : (int)length, target);
    return;
  }
  if (S_ISCHR(about.st_mode)) printf(" character %u:%u", major(about.st_rdev), minor(about.st_rdev));
  else printf(" %s", S_ISDIR(about.st_mode) ? "directory" : S_ISREG(about.st_mode) ? "regular" : "other");
  printf(" %04o of %u:%u\n", about.st_mode & 07777, about.st_uid, about.st_gid);
}

static int by_name(const struct dirent **one, const struct dirent **other) {
  return strcmp((*one)->d_name, (*other)->d_name);
}

static void files_of(const char *directory) {
  struct dirent **entries;
  int count = scandir(directory, &entries, NULL, by_name);
  for (int at = 0; at < count; at++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, entries[at]->d_name);
    if (strcmp(entries[at]->d_name, ".") && strcmp(entries[at]->d_name, "..")) tell_node(path);
    free(entries[at]);
  }
  if (count >= 0) free(entries);
}

static void files(void) {
  static const char *const directories[] = {"/", "/proc", "/sys", "/dev"};
  for (size_t at = 0; at < sizeof directories / sizeof *directories; at++) tell_node(directories[at]);
  files_of("/dev");
  files_of("/dev/pts");
}

static void descriptors(void) {
  struct dirent **entries;
  int count = scandir("/proc/self/fd", &entries, NULL, by_name);
  for (int at = 0; at < count; at++) {
    struct stat about;
    int number = atoi(entries[at]->d_name);
    /* Neither the dots nor the directory that was being read. */
    if (entries[at]->d_name[0] != '.' && fstat(number, &about) == 0) {
      int flags = fcntl(number, F_GETFL);
      printf("descriptor %d:", number);
      if (S_ISCHR(about.st_mode)) printf(" character %u:%u", major(about.st_rdev), minor(about.st_rdev));
      else printf(" %s %04o of %u:%u", S_ISFIFO(about.st_mode) ? "pipe" : "other", about.st_mode & 07777, about.st_uid, about.st_gid);
      printf(" %s%s\n", (flags & O_ACCMODE) == O_RDONLY ? "read" : (flags & O_ACCMODE) == O_WRONLY ? "write" : "both", flags & O_NONBLOCK ? " nonblocking" : "");
    }
    free(entries[at]);
  }
  if (count >= 0) free(entries);
}

static void try_open(const char *key, const char *path, int flags) {
  int file = open(path, flags | O_CLOEXEC, 0600);
  printf("%s: %s\n", key, file < 0 ? strerrorname_np(errno) : "ok");
  if (file >= 0) close(file);
}

static void try_node(const char *name, unsigned minor) {
  char path[64], key[64];
  snprintf(path, sizeof path, "/made-%s", name);
  snprintf(key, sizeof key, "make a node of %s", name);
  int made = mknod(path, S_IFCHR | 0666, makedev(1, minor));
  printf("%s: %s\n", key, made < 0 ? strerrorname_np(errno) : "ok");
  if (made < 0) return;
  snprintf(key, sizeof key, "open a node of %s that was made", name);
  try_open(key, path, O_RDONLY | O_NONBLOCK);
  unlink(path);
}

static void attempts(void) {
  try_open("write to the root", "/new", O_WRONLY | O_CREAT);
  unlink("/new");
  try_open("write to /dev/shm", "/dev/shm/new", O_WRONLY | O_CREAT);
  unlink("/dev/shm/new");
  try_open("open /proc/sys/kernel/hostname for writing", "/proc/sys/kernel/hostname", O_WRONLY);
  try_open("open /proc/sysrq-trigger for writing", "/proc/sysrq-trigger", O_WRONLY);
  try_open("open /sys/class/net/lo/mtu for writing", "/sys/class/net/lo/mtu", O_WRONLY);
  try_node("zero", 5);
  try_node("kmsg", 11);
}

static void wait_and_become(char **arguments) {
  sigset_t set;
  int signal;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  printf("ready\n");
  fflush(stdout);
  sigwait(&set, &signal);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  execv(arguments[0], arguments);
}

int main(int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "fault") == 0) __builtin_trap();
  if (count > 1 && strcmp(arguments[1], "names") == 0) {
    namespaces();
    keyring();
    return 0;
  }
  command(count, arguments);
  process();
  status();
  limits();
  host();
  namespaces();
  keyring();
  cgroups();
  mounts();
  files();
  descriptors();
  attempts();
  fflush(stdout);
  if (count > 3 && strcmp(arguments[1], "and") == 0 && strcmp(arguments[2], "wait") == 0) {
    wait_and_become(arguments + 3);
    return 126;
  }
  return 0;
}
