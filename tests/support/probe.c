/* What a process is left with, told from inside: its privileges, and what the
 * kernel answers to calls that should not go through. A call that does go
 * through is given what makes it fail in another way, or what is harmless. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *call, long result, int error) {
  printf("%s: %s\n", call, result >= 0 ? "ok" : strerrorname_np(error));
}

static void try_call(const char *name, long number, long a, long b, long c) {
  errno = 0;
  long result = syscall(number, a, b, c, -1L, -1L);
  tell(name, result, errno);
}

#define TRY(call, a, b, c) try_call(#call, SYS_##call, (long)(a), (long)(b), (long)(c))

static void privileges(void) {
  static const char *const fields[] = {"Uid:", "Gid:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:",
                                       "CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"};
  char line[256];
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status))
    for (size_t at = 0; at < sizeof fields / sizeof *fields; at++)
      if (strncmp(line, fields[at], strlen(fields[at])) == 0) fputs(line, stdout);
  if (status) fclose(status);
}

static void namespaces(void) {
  /* No such flag: nothing is unshared even where it may be. */
  TRY(unshare, 1, 0, 0);
  TRY(setns, -1, 0, 0);
  TRY(clone3, 0, 0, 0);
  /* CLONE_NEWUSER | CLONE_FS contradict each other. */
  TRY(clone, 0x10000000 | 0x200 | 17, 0, 0);
  TRY(chroot, -1, 0, 0);
  TRY(pivot_root, -1, -1, 0);
}

static void mounts(void) {
  TRY(mount, -1, -1, -1);
  TRY(umount2, -1, 0, 0);
  TRY(fsopen, -1, -1, 0);
  TRY(fspick, -1, -1, -1);
  TRY(open_tree, -1, -1, 0);
  TRY(move_mount, -1, -1, -1);
  TRY(mount_setattr, -1, -1, -1);
  TRY(name_to_handle_at, -1, -1, -1);
  TRY(open_by_handle_at, -1, -1, -1);
  TRY(quotactl, -1, -1, -1);
}

static void machine(void) {
  TRY(reboot, 0, 0, 0);
  TRY(kexec_load, 0, -1, -1);
  TRY(swapon, -1, -1, 0);
  TRY(swapoff, -1, 0, 0);
  TRY(init_module, -1, 0, -1);
  TRY(finit_module, -1, -1, 0);
  TRY(delete_module, -1, 0, 0);
  TRY(settimeofday, -1, -1, 0);
  TRY(clock_settime, 0, -1, 0);
  TRY(syslog, -1, 0, 0);
  TRY(acct, -1, 0, 0);
  TRY(sethostname, -1, 1, 0);
#ifdef __x86_64__
  TRY(iopl, -1, 0, 0);
  TRY(ioperm, -1, -1, 0);
  TRY(uselib, -1, 0, 0);
  TRY(ustat, -1, -1, 0);
  TRY(sysfs, -1, 0, 0);
#endif
}

static void kernel(void) {
  TRY(keyctl, -1, 0, 0);
  TRY(add_key, -1, -1, 0);
  TRY(request_key, -1, -1, 0);
  TRY(bpf, -1, -1, -1);
  TRY(perf_event_open, -1, 0, -1);
  TRY(userfaultfd, -1, 0, 0);
  TRY(io_uring_setup, 0, 0, 0);
  TRY(io_uring_enter, -1, 0, 0);
  TRY(io_uring_register, -1, 0, 0);
  TRY(fanotify_init, -1, 0, 0);
  TRY(move_pages, 0, 1, -1);
  TRY(migrate_pages, 0, -1, -1);
  TRY(mbind, -1, 1, -1);
  TRY(kcmp, 1, 1, 99);
  TRY(pidfd_getfd, -1, 0, 0);
  TRY(process_vm_readv, 1, -1, 1);
}

static void sockets(void) {
  try_call("socket unix", SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  try_call("socket inet", SYS_socket, AF_INET, SOCK_STREAM, 0);
  try_call("socket netlink", SYS_socket, AF_NETLINK, SOCK_RAW, 0);
  try_call("socket alg", SYS_socket, 38 /* AF_ALG */, SOCK_SEQPACKET, 0);
  try_call("socket vsock", SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
  try_call("socket hidden vsock", SYS_socket, 0x100000000 | AF_VSOCK, SOCK_STREAM, 0);
}

static void personalities(void) {
  try_call("personality asked", SYS_personality, 0xffffffff, 0, 0);
  try_call("personality not random", SYS_personality, 0x40000, 0, 0);
}

static void tracing(void) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) _exit(syscall(SYS_ptrace, 0L, 0L, 0L, 0L) == 0 ? 0 : errno);
  int status = 0;
  waitpid(child, &status, 0);
  tell("ptrace", status == 0 ? 0 : -1, WEXITSTATUS(status));
}

#ifdef __x86_64__
/* The 32-bit ABI, which any process may use. */
static void try_i386(const char *name, long number, long a, long b, long c) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
  printf("i386 ");
  tell(name, result, (int)-result);
}

static void i386(void) {
  try_i386("getpid", 20, 0, 0, 0);
  try_i386("unshare", 310, 1, 0, 0);
  try_i386("keyctl", 288, -1, 0, 0);
  try_i386("clone3", 435, 0, 0, 0);
  try_i386("mount", 21, 0, 0, 0);
  try_i386("socket inet", 359, AF_INET, SOCK_STREAM, 0);
  try_i386("socket vsock", 359, AF_VSOCK, SOCK_STREAM, 0);
  /* The kernel does not look at the upper half; a program must not either. */
  try_i386("socket hidden vsock", 359, (long)0xdead000000000000 | AF_VSOCK, SOCK_STREAM, 0);
  try_i386("personality", 136, 0x40000, 0, 0);
}
#endif

int main(int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "again") == 0) {
    fflush(stdout);
    execl(arguments[0], arguments[0], (char *)0);
    return 126;
  }
  privileges();
  namespaces();
  mounts();
  machine();
  kernel();
  sockets();
  personalities();
  tracing();
  /* What no profile can know yet. */
  try_call("a call to come", 999, 0, 0, 0);
#ifdef __x86_64__
  try_call("x32 getpid", 0x40000000 | 39, 0, 0, 0);
  i386();
#endif
  return 0;
}
