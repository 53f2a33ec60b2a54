/* The oldest way out of a root directory: take another one, and climb from a
 * working directory that is not below it. Says where that leads. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void tell_root(void) {
  struct stat root;
  if (stat("/", &root) == 0) printf("%lu:%lu\n", (unsigned long)root.st_dev, (unsigned long)root.st_ino);
}

int main(void) {
  tell_root();
  mkdir("/deeper", 0755);
  if (chroot("/deeper") != 0) return 1;
  for (int level = 0; level < 64; level++)
    if (chdir("..") != 0) return 2;
  if (chroot(".") != 0) return 3;
  tell_root();
  return 0;
}
