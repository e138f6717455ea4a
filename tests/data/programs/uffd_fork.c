/* A child calls through the userfaultfd that it inherited: the kernel changes its parent's address space. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define BASE 0x100000000000ul

static void die(const char *what) { perror(what); exit(1); }

static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		die("userfaultfd");
	return fd;
}

static int reg(int fd, unsigned long page, unsigned long pages)
{
	struct uffdio_register r = { .range = { BASE + page * PAGE, pages * PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	return ioctl(fd, UFFDIO_REGISTER, &r) ? -errno : 0;
}

static int unreg(int fd, unsigned long page, unsigned long pages)
{
	struct uffdio_range r = { BASE + page * PAGE, pages * PAGE };

	return ioctl(fd, UFFDIO_UNREGISTER, &r) ? -errno : 0;
}

static void want(int got, int wanted, const char *what)
{
	if (got != wanted) { fprintf(stderr, "%s: %d, not %d\n", what, got, wanted); exit(1); }
}

static void map(unsigned long page, unsigned long pages)
{
	if (mmap((void *)(BASE + page * PAGE), pages * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		die("mmap");
}

static int child_fd = -1;

static void *monitor(void *arg)
{
	int fd = *(int *)arg;
	struct uffd_msg msg;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (poll(&p, 1, -1) > 0)
		if (read(fd, &msg, sizeof msg) == sizeof msg && msg.event == UFFD_EVENT_FORK) {
			child_fd = msg.arg.fork.ufd;
			return NULL;
		}
	return NULL;
}

int main(void)
{
	int fd = uffd_open(0), status, go[2];
	pthread_t thread;
	pid_t pid;
	char c = 0;

	map(0, 16);
	want(reg(fd, 4, 4), 0, "register");
	if (!(pid = fork())) {	/* without EVENT_FORK its copy is not registered */
		want(mprotect((void *)(BASE + 4 * PAGE), PAGE, PROT_READ), 0, "mprotect");
		want(mprotect((void *)(BASE + 4 * PAGE), PAGE, PROT_READ | PROT_WRITE), 0, "mprotect");
		want(reg(fd, 10, 2), 0, "register in the parent");
		want(munmap((void *)(BASE + 12 * PAGE), 4 * PAGE), 0, "munmap of its own");
		want(reg(fd, 12, 2), 0, "register what the child has no more");
		want(unreg(fd, 5, 1), 0, "unregister in the parent");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	want(status, 0, "first child");
	want(mprotect((void *)BASE, PAGE, PROT_READ), 0, "mprotect");	/* the parent again: its map shows all that */
	want(munmap((void *)(BASE + 11 * PAGE), PAGE), 0, "munmap");
	if (!(pid = fork())) {
		close(fd);	/* not the last reference */
		want(munmap((void *)BASE, PAGE), 0, "munmap");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	close(fd);		/* the last */
	want(mprotect((void *)BASE, PAGE, PROT_READ | PROT_WRITE), 0, "mprotect");
	/* EVENT_FORK: the child's copy is watched by a context of its own, which the monitor gets */
	fd = uffd_open(UFFD_FEATURE_EVENT_FORK);
	map(32, 8);
	want(reg(fd, 32, 8), 0, "register");
	if (pipe(go) || pthread_create(&thread, NULL, monitor, &fd))
		die("monitor");
	if (!(pid = fork())) {
		want(munmap((void *)(BASE + 39 * PAGE), PAGE), 0, "munmap");
		want(read(go[0], &c, 1), 1, "read");
		want(munmap((void *)(BASE + 32 * PAGE), PAGE), 0, "munmap");
		_exit(0);
	}
	pthread_join(thread, NULL);
	want(unreg(child_fd, 34, 2), 0, "unregister in the child");
	want(unreg(fd, 36, 2), 0, "unregister in the parent");
	want(write(go[1], &c, 1), 1, "write");
	waitpid(pid, &status, 0);
	want(status, 0, "second child");
	want(unreg(child_fd, 33, 1), -ENOMEM, "the child is gone");
	close(child_fd);
	want(munmap((void *)(BASE + 32 * PAGE), PAGE), 0, "munmap");
	close(fd);
	/* one who outlives its parent */
	if (!(pid = fork())) {
		int inner = uffd_open(0), out[2];

		map(64, 4);
		want(reg(inner, 64, 2), 0, "register");
		if (pipe(out))
			die("pipe");
		if (!fork()) {
			char d;

			close(out[1]);
			want(read(out[0], &d, 1), 0, "end of the parent");
			want(reg(inner, 66, 1), -ENOMEM, "the parent is gone");
			want(write(go[1], &c, 1), 1, "write");
			_exit(0);
		}
		_exit(0);
	}
	waitpid(pid, &status, 0);
	want(read(go[0], &c, 1), 1, "read");
	return 0;
}
