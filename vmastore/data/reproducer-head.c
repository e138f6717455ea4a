#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define PAGE 4096UL
#define BASE @BASE@UL
#define END (BASE + @PAGES@ * PAGE)
#define SKIP 4

/* A line of /proc/self/maps; start and end in pages of the arena; name NULL: not compared. */
struct line {
	unsigned long start, end;
	const char *perms;
	unsigned long offset;
	const char *name;
};

static int failed, step_failed;
static char text[1 << 16];

__attribute__((unused)) static int skip(const char *what)
{
	printf("Bail out! SKIP %s: %s\n", what, strerror(errno));
	exit(SKIP);
}

__attribute__((unused)) static int or_skip(int fd, const char *what)
{
	return fd < 0 ? skip(what) : fd;
}

/* A system call: what it returns, or -errno. */
__attribute__((unused)) static long call(long number, unsigned long a, unsigned long b, unsigned long c,
		unsigned long d, unsigned long e, unsigned long f)
{
	long got = syscall(number, a, b, c, d, e, f);

	return got == -1 ? -errno : got;
}

/* This process, for process_madvise; after a fork the child. */
__attribute__((unused)) static int open_self(void)
{
	return or_skip((int)syscall(434 /* pidfd_open */, getpid(), 0), "pidfd_open");
}

static sigjmp_buf refused;

static void on_fault(int number)
{
	siglongjmp(refused, number);
}

/* Access one byte of each page; returns how many pages refused it. */
__attribute__((unused)) static long touch(unsigned long addr, unsigned long length, int write)
{
	volatile unsigned long at;
	volatile long count = 0;

	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	for (at = addr; at < addr + length; at += PAGE) {
		if (sigsetjmp(refused, 1))
			count++;
		else if (write)
			*(volatile char *)at = 1;
		else
			(void)*(volatile char *)at;
	}
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	return count;
}

__attribute__((unused)) static void answer(int step, long got, long want)
{
	if (got == want)
		return;
	printf("# step %d: returned %ld (%#lx), expected %ld (%#lx)\n", step, got, got, want, want);
	step_failed = 1;
}

/* The next line of maps from *at on; 0 at the end. */
static int next_line(FILE *maps, struct line *line, char *perms, char *name)
{
	char buffer[512];

	while (fgets(buffer, sizeof(buffer), maps)) {
		int at = 0;

		if (sscanf(buffer, "%lx-%lx %4s %lx %*s %*s %n", &line->start, &line->end, perms, &line->offset, &at) < 4)
			continue;
		strcpy(name, at ? buffer + at : "");
		name[strcspn(name, "\n")] = 0;
		return 1;
	}
	return 0;
}

/* Compare the arena's lines in /proc/self/maps with what is expected. */
static void check(int step, const char *what, const struct line *want, int count)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	struct line got;
	char perms[8], name[512];
	int n = 0;

	if (!maps)
		skip("/proc/self/maps");
	setvbuf(maps, text, _IOFBF, sizeof(text));
	while (next_line(maps, &got, perms, name)) {
		if (got.start >= END)
			break;
		if (got.end <= BASE)
			continue;
		got.start = (got.start - BASE) / PAGE;
		got.end = (got.end - BASE) / PAGE;
		if (n >= count || got.start != want[n].start || got.end != want[n].end ||
		    strcmp(perms, want[n].perms) || got.offset != want[n].offset ||
		    (want[n].name && strcmp(name, want[n].name))) {
			step_failed = 1;
			printf("# step %d: page %lu to %lu %s %#lx %s", step, got.start, got.end, perms, got.offset, name);
			if (n < count)
				printf(", expected page %lu to %lu %s %#lx %s\n", want[n].start, want[n].end,
				       want[n].perms, want[n].offset, want[n].name ? want[n].name : "");
			else
				printf(", expected no more lines\n");
		}
		n++;
	}
	fclose(maps);
	for (; n < count; n++) {
		step_failed = 1;
		printf("# step %d: missing: page %lu to %lu %s %#lx\n", step, want[n].start, want[n].end,
		       want[n].perms, want[n].offset);
	}
	printf("%sok %d - %s\n", step_failed ? "not " : "", step, what);
	failed |= step_failed;
	step_failed = 0;
}

/* The child goes on; the parent waits for it and ends with its status. */
__attribute__((unused)) static void go_on_in_child(int step)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0)
		skip("fork");
	if (!child)
		return;
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
		printf("not ok %d - the child was killed\n", step);
		exit(1);
	}
	exit(WEXITSTATUS(status));
}

__attribute__((unused)) static int open_file(int memory, unsigned long size, int mode)
{
	char path[64] = "/tmp/reproducer-XXXXXX";
	int fd = memory ? memfd_create("reproducer", 0) : mkstemp(path);
	int again;

	if (fd < 0 || ftruncate(fd, size))
		skip("a file to map");
	if (!memory)
		unlink(path);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, mode);
	if (again < 0)
		skip(path);
	close(fd);
	return again;
}

__attribute__((unused)) static int open_userfaultfd(int handshake)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || (handshake && ioctl(fd, UFFDIO_API, &api)))
		skip("userfaultfd");
	return fd;
}

/* See that nothing is mapped where the operations will work. */
static void reserve_arena(void)
{
	void *got = mmap((void *)(BASE - PAGE), END - BASE + 2 * PAGE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (got != (void *)(BASE - PAGE))
		skip("the arena");
	munmap(got, END - BASE + 2 * PAGE);
}

