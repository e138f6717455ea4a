/* Threads map, write, protect, move and unmap without pause; main exits in the middle of it, at its input's end. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 48, PAGE = 4096 };

static void *work(void *seed_pointer)
{
	unsigned seed = 7919 * (unsigned)(long)seed_pointer + 1;
	char *slot[SLOTS] = { 0 };
	size_t length[SLOTS];
	for (;;) {
		int i = rand_r(&seed) % SLOTS;
		if (!slot[i]) {
			length[i] = PAGE * (1 + rand_r(&seed) % 16);
			slot[i] = mmap(0, length[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			continue;
		}
		char *page = slot[i] + PAGE * (rand_r(&seed) % (length[i] / PAGE));
		switch (rand_r(&seed) % 6) {
		case 0:
			munmap(slot[i], length[i]);
			slot[i] = 0;
			break;
		case 1:
			mprotect(page, PAGE, PROT_READ);
			break;
		case 2:
			mprotect(slot[i], length[i], PROT_READ | PROT_WRITE);
			break;
		case 3:
			mprotect(page, PAGE, PROT_READ | PROT_WRITE);
			*page = 1;
			break;
		case 4:
			madvise(page, PAGE, MADV_DONTFORK);
			break;
		case 5: {
			char *moved = mremap(slot[i], length[i], length[i] + PAGE, MREMAP_MAYMOVE);
			if (moved != MAP_FAILED) {
				slot[i] = moved;
				length[i] += PAGE;
			}
		}
		}
	}
}

int main(int argc, char **argv)
{
	pthread_t thread;
	for (long n = 0; n < atoi(argv[1]); n++)
		pthread_create(&thread, 0, work, (void *)n);
	char none;
	while (read(0, &none, 1) > 0)
		;
	exit(3);
}
