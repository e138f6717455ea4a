/* Makes the memory calls of a file, as benchmarks/recording.py writes them; nothing else of the program is counted.
 * usage: load FILE, of records of 6 native 64-bit integers: call, address, length, prot or advice, flags, unused */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MMAP, MPROTECT, MADVISE, FAULT };
struct call { int64_t call, addr, length, word, flags, unused; };

int main(int argc, char **argv)
{
	static struct call calls[4096];
	ssize_t got;
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;

	if (fd < 0) {
		fprintf(stderr, "load: a file of calls is needed\n");
		return 2;
	}
	while ((got = read(fd, calls, sizeof calls)) > 0) {
		for (size_t n = 0; n < got / sizeof *calls; n++) {
			struct call *c = calls + n;
			void *addr = (void *)c->addr;
			int failed = 0;

			switch (c->call) {
			case MMAP:
				failed = mmap(addr, c->length, c->word, c->flags, -1, 0) != addr;
				break;
			case MPROTECT:
				failed = mprotect(addr, c->length, c->word);
				break;
			case MADVISE:
				failed = madvise(addr, c->length, c->word);
				break;
			case FAULT:
				*(volatile char *)addr = 1;
				break;
			}
			if (failed) {
				perror("load");
				return 1;
			}
		}
	}
	return got < 0;
}
