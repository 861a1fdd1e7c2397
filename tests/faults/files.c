// Stands between a process and its files (LD_PRELOAD): counts what it does below one folder, writes it down with its data,
// lets the n-th matching operation fail, or kills the process there.
//
//   FAULT_ROOT    the folder, as realpath gives it; nothing outside of it is touched
//   FAULT_RECORD  a file outside of it that gets a line for each operation:
//                 op TAB inode TAB path TAB second path TAB offset TAB length, and after the line the bytes of a write
//   FAULT_RULES   op:pattern:nth:what:how, several parted by spaces: the nth operation `op` on a path (below the root) that matches the pattern.
//                 what: a number of errno, or `kill`; how: `once`; `here`, then all that match; `all`, then everything that
//                 needs space (a full disk) below the root; `short`, the write is done by half, then as `all`
//
// Operations: create, write, truncate, allocate, sync (of a folder too), rename, link, unlink, mkdir, rmdir.
// An operation that takes space is create, write, allocate, rename, link, mkdir.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t door;
static const char *root;
static size_t root_length;
static int record = -1;

struct rule {
  char *op, *pattern, *how;
  long nth, error; // 0: kill
  long seen;
  int fired, halved;
};
static struct rule rules[8];
static int rule_count;

// First of all, but also from the first operation of a library that is loaded before this one has been set up.
__attribute__((constructor)) static void set_up(void) {
  static int done;
  if (done) return;
  done = 1;
  pthread_mutexattr_t recursive;
  pthread_mutexattr_init(&recursive);
  pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&door, &recursive);
  root = getenv("FAULT_ROOT");
  root_length = root ? strlen(root) : 0;
  const char *to = getenv("FAULT_RECORD"), *given = getenv("FAULT_RULES");
  if (to) record = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (!given) return;
  char *rest = strdup(given), *one;
  while ((one = strsep(&rest, " ")) && rule_count < 8) {
    struct rule *rule = &rules[rule_count++];
    rule->op = strsep(&one, ":");
    rule->pattern = strsep(&one, ":");
    rule->nth = atol(strsep(&one, ":"));
    rule->error = atol(strsep(&one, ":"));
    rule->how = strsep(&one, ":");
  }
}

static void enter(void) {
  set_up();
  pthread_mutex_lock(&door);
}

static void leave(void) {
  int kept = errno;
  pthread_mutex_unlock(&door);
  errno = kept;
}

// The path below the root, or null.
static const char *below(const char *path) {
  if (!root || strncmp(path, root, root_length) || path[root_length] != '/') return NULL;
  return path + root_length + 1;
}

static const char *path_of(int fd, char *buffer) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, buffer, PATH_MAX - 1);
  if (length < 0) return NULL;
  buffer[length] = 0;
  return below(buffer);
}

// The path of a name in a folder, with the folder's links followed.
static const char *path_at(int folder, const char *name, char *buffer) {
  char joined[2 * PATH_MAX], parent[PATH_MAX], real[PATH_MAX];
  int length;
  if (!root || !name) return NULL;
  if (name[0] == '/' || folder == AT_FDCWD) {
    length = snprintf(joined, sizeof joined, "%s", name);
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t got = readlink(link, parent, sizeof parent - 1);
    if (got < 0) return NULL;
    parent[got] = 0;
    length = snprintf(joined, sizeof joined, "%s/%s", parent, name);
  }
  while (length > 1 && joined[length - 1] == '/') joined[--length] = 0;
  char *slash = strrchr(joined, '/');
  const char *base = slash ? slash + 1 : joined;
  if (slash == joined) return NULL;
  if (slash) *slash = 0;
  if (!realpath(slash ? joined : ".", real)) return NULL;
  if (snprintf(buffer, PATH_MAX, "%s/%s", real, base) >= PATH_MAX) return NULL;
  return below(buffer);
}

static unsigned long inode_of(int fd) {
  struct stat found;
  return fstat(fd, &found) ? 0 : found.st_ino;
}

static unsigned long inode_at(const char *path) { // below the root
  char whole[PATH_MAX];
  struct stat found;
  snprintf(whole, sizeof whole, "%s/%s", root, path);
  return lstat(whole, &found) ? 0 : found.st_ino;
}

static void put(const char *bytes, size_t length) {
  while (length) {
    ssize_t count = syscall(SYS_write, record, bytes, length);
    if (count <= 0) _exit(99);
    bytes += count, length -= count;
  }
}

static void note(const char *op, unsigned long inode, const char *path, const char *other, off_t offset, size_t length) {
  if (record < 0) return;
  int kept = errno;
  char line[2 * PATH_MAX + 128];
  put(line, snprintf(line, sizeof line, "%s\t%lu\t%s\t%s\t%lld\t%zu\n", op, inode, path, other, (long long)offset, length));
  errno = kept;
}

static int takes_space(const char *op) {
  return strcmp(op, "sync") && strcmp(op, "unlink") && strcmp(op, "truncate") && strcmp(op, "rmdir");
}

// Whether this operation is to fail by this rule.
static int breaks(struct rule *rule, const char *op, const char *path) {
  int matches = !strcmp(op, rule->op) && !fnmatch(rule->pattern, path, 0);
  if (rule->fired) {
    if (!strcmp(rule->how, "once")) return 0;
    return !strcmp(rule->how, "here") ? matches : takes_space(op);
  }
  return rule->fired = matches && ++rule->seen == rule->nth;
}

// The rule by which this operation is to fail, or null; errno says how.
static struct rule *fails(const char *op, const char *path) {
  for (struct rule *rule = rules; rule < rules + rule_count; rule++) {
    int again = rule->fired;
    if (!breaks(rule, op, path)) continue;
    if (!rule->error) syscall(SYS_kill, getpid(), SIGKILL);
    note(again ? "fault again" : "fault", 0, path, op, 0, 0);
    errno = rule->error;
    return rule;
  }
  return NULL;
}

// -- open

static int open_below(int folder, const char *name, int flags, mode_t mode) {
  char buffer[PATH_MAX];
  enter();
  const char *path = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE ? path_at(folder, name, buffer) : NULL;
  unsigned long before = path ? inode_at(path) : 0;
  if (path && !before && (flags & O_CREAT) && fails("create", path)) return leave(), -1;
  int fd = syscall(SYS_openat, folder, name, flags, mode);
  if (path && fd >= 0) {
    if (!before) note("create", inode_of(fd), path, "", 0, 0);
    else if (flags & O_TRUNC) note("truncate", before, path, "", 0, 0);
  }
  leave();
  return fd;
}

#define MODE(flags, last) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, last); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *name, int flags, ...) { MODE(flags, flags) return open_below(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, flags) return open_below(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags, flags) return open_below(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags, flags) return open_below(folder, name, flags, mode); }
int __open_2(const char *name, int flags) { return open_below(AT_FDCWD, name, flags, 0); }
int __open64_2(const char *name, int flags) { return open_below(AT_FDCWD, name, flags, 0); }
int creat(const char *name, mode_t mode) { return open_below(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

// -- write

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t offset) { // offset -1: where the file is
  return offset < 0 ? syscall(SYS_write, fd, bytes, length) : syscall(SYS_pwrite64, fd, bytes, length, offset);
}

static ssize_t write_below(int fd, const void *bytes, size_t length, off_t offset) {
  char buffer[PATH_MAX];
  if (!root) return write_at(fd, bytes, length, offset);
  enter();
  const char *path = path_of(fd, buffer);
  struct rule *rule = path ? fails("write", path) : NULL;
  ssize_t count = -1;
  if (!rule) {
    count = write_at(fd, bytes, length, offset);
  } else if (!strcmp(rule->how, "short") && !rule->halved && length > 1) {
    rule->halved = 1;
    count = write_at(fd, bytes, length / 2, offset);
  }
  if (path && count > 0 && record >= 0) {
    off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - count : offset;
    note("write", inode_of(fd), path, "", at, count);
    put(bytes, count);
  }
  leave();
  return count;
}

static ssize_t writev_below(int fd, const struct iovec *parts, int count, off_t offset) {
  char buffer[PATH_MAX];
  enter();
  int ours = path_of(fd, buffer) != NULL;
  leave();
  if (!ours) return offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0);
  ssize_t total = 0;
  for (int i = 0; i < count; i++) {
    if (!parts[i].iov_len) continue;
    ssize_t done = write_below(fd, parts[i].iov_base, parts[i].iov_len, offset < 0 ? -1 : offset + total);
    if (done < 0) return total ? total : -1;
    total += done;
    if ((size_t)done < parts[i].iov_len) break;
  }
  return total;
}

ssize_t write(int fd, const void *bytes, size_t length) { return write_below(fd, bytes, length, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return write_below(fd, bytes, length, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) { return write_below(fd, bytes, length, offset); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return writev_below(fd, parts, count, -1); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return writev_below(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { return writev_below(fd, parts, count, offset); }

// Callers fall back to reading and writing, which is seen.
ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t length, unsigned flags) {
  char buffer[PATH_MAX];
  if (path_of(out, buffer)) return errno = ENOSYS, -1;
  return syscall(SYS_copy_file_range, in, from, out, to, length, flags);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
  char buffer[PATH_MAX];
  if (path_of(out, buffer)) return errno = ENOSYS, -1;
  return syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off_t *offset, size_t count) { return sendfile(out, in, offset, count); }

// -- size

static int truncate_below(int fd, off_t length) {
  char buffer[PATH_MAX];
  enter();
  const char *path = path_of(fd, buffer);
  int failed = path && fails("truncate", path) ? -1 : syscall(SYS_ftruncate, fd, length);
  if (path && !failed) note("truncate", inode_of(fd), path, "", length, 0);
  leave();
  return failed;
}

int ftruncate(int fd, off_t length) { return truncate_below(fd, length); }
int ftruncate64(int fd, off_t length) { return truncate_below(fd, length); }

static int allocate_below(int fd, int mode, off_t offset, off_t length) {
  char buffer[PATH_MAX];
  enter();
  const char *path = path_of(fd, buffer);
  int failed = path && fails("allocate", path) ? -1 : syscall(SYS_fallocate, fd, mode, offset, length);
  struct stat found;
  if (path && !failed && !fstat(fd, &found)) note("allocate", found.st_ino, path, "", found.st_size, 0);
  leave();
  return failed;
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return allocate_below(fd, mode, offset, length); }
int fallocate64(int fd, int mode, off_t offset, off_t length) { return allocate_below(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return allocate_below(fd, 0, offset, length) ? errno : 0; }
int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

// -- sync

static int sync_below(int fd, long call) {
  char buffer[PATH_MAX];
  enter();
  char whole[PATH_MAX];
  snprintf(whole, sizeof whole, "%s", root ? root : "");
  const char *path = path_of(fd, buffer);
  if (!path && root && !strcmp(buffer, whole)) path = ""; // the root itself
  int failed = path && fails("sync", path) ? -1 : syscall(call, fd);
  if (path && !failed) note("sync", inode_of(fd), path, "", 0, 0);
  leave();
  return failed;
}

int fsync(int fd) { return sync_below(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_below(fd, SYS_fdatasync); }
// Promises nothing about the disk's own cache or the file's size: not noted.
int sync_file_range(int fd, off_t offset, off_t length, unsigned flags) {
  return syscall(SYS_sync_file_range, fd, offset, length, flags);
}

// -- names

static int names_below(const char *op, long call, int folder, const char *from, int other, const char *to, unsigned flags) {
  char one[PATH_MAX], two[PATH_MAX];
  enter();
  const char *source = path_at(folder, from, one), *target = path_at(other, to, two);
  int failed = -1;
  if (!target || !fails(op, target)) {
    unsigned long inode = source ? inode_at(source) : 0;
    failed = syscall(call, folder, from, other, to, flags);
    if (source && target && !failed) note(op, inode, source, target, 0, 0);
  }
  leave();
  return failed;
}

int rename(const char *from, const char *to) { return names_below("rename", SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int folder, const char *from, int other, const char *to) {
  return names_below("rename", SYS_renameat2, folder, from, other, to, 0);
}
int renameat2(int folder, const char *from, int other, const char *to, unsigned flags) {
  return names_below("rename", SYS_renameat2, folder, from, other, to, flags);
}
int link(const char *from, const char *to) { return names_below("link", SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int folder, const char *from, int other, const char *to, int flags) {
  return names_below("link", SYS_linkat, folder, from, other, to, flags);
}

static int unlink_below(int folder, const char *name, int flags) {
  char buffer[PATH_MAX];
  enter();
  const char *path = path_at(folder, name, buffer), *op = flags & AT_REMOVEDIR ? "rmdir" : "unlink";
  int failed = -1;
  if (!path || !fails(op, path)) {
    unsigned long inode = path ? inode_at(path) : 0;
    failed = syscall(SYS_unlinkat, folder, name, flags);
    if (path && !failed) note(op, inode, path, "", 0, 0);
  }
  leave();
  return failed;
}

int unlink(const char *name) { return unlink_below(AT_FDCWD, name, 0); }
int unlinkat(int folder, const char *name, int flags) { return unlink_below(folder, name, flags); }
int rmdir(const char *name) { return unlink_below(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
  char buffer[PATH_MAX];
  enter();
  const char *path = path_at(folder, name, buffer);
  int failed = path && !inode_at(path) && fails("mkdir", path) ? -1 : syscall(SYS_mkdirat, folder, name, mode);
  if (path && !failed) note("mkdir", inode_at(path), path, "", 0, 0);
  leave();
  return failed;
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
