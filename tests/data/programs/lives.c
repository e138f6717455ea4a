/* Threads, a fork and a posix_spawn, one after the other, that map, protect and unmap: the same calls at each run. */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
static char *kept;

static void *work(void *number)
{
	char *p = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 8; i++)
		p[i * PAGE] = 1;
	mprotect(p + (long)number * PAGE, PAGE, PROT_READ);
	munmap(p + 6 * PAGE, PAGE);
	kept = p;
	return 0;
}

int main(void)
{
	char *argv[] = { "true", 0 }, *env[] = { 0 };
	pthread_t thread;
	pid_t child;

	for (long n = 0; n < 3; n++) {
		pthread_create(&thread, 0, work, (void *)n);
		pthread_join(thread, 0);
	}
	child = fork();
	if (!child) {
		mprotect(kept + 4 * PAGE, PAGE, PROT_NONE);
		madvise(kept, PAGE, MADV_DONTFORK);
		kept[PAGE] = 2;
		kept = mremap(kept + 7 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
		_exit(kept == MAP_FAILED);
	}
	waitpid(child, 0, 0);
	posix_spawn(&child, "/bin/true", 0, 0, argv, env);
	waitpid(child, 0, 0);
	munmap(kept, PAGE);
	return 0;
}
