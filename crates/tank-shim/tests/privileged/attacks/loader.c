/* What a hostile image has in the place of the dynamic loader: when the image's
 * command is `#!/proc/self/exe`, this runs in a process whose program is the
 * shim's. It keeps hold of that program's file as descriptor 9, and becomes a
 * shell, so that the file is not in its own way. No libc: there is none that
 * begins in another program's stead. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>

static long call(long number, long a, long b, long c) {
#if defined(__x86_64__)
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#endif
}

static const char *const arguments[] = {"sh", "/hold", 0};
static const char *const environment[] = {"PATH=/bin", 0};

void _start(void) {
  long file = call(SYS_openat, AT_FDCWD, (long)"/proc/self/exe", O_PATH);
  call(SYS_dup3, file, 9, 0);
  call(SYS_execve, (long)"/bin/sh", (long)arguments, (long)environment);
  call(SYS_exit, 99, 0, 0);
}
