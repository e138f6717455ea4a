/* A parent writes into its child's memory, and reads from it: process_vm_writev and process_vm_readv.
 *
 * The child's sixteen pages are four VMAs of four: rw r rw r. The parent writes to both rw ones, so that each has an
 * anon_vma of its own; when the child makes all of them rw, two VMAs are left, and not one.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)

static char *map(unsigned long where, int pages)
{
	return mmap((void *)where, pages * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

int main(void)
{
	char *theirs = map(0x100000000000, 16), *ours = map(0x110000000000, 4), text[2 * PAGE], c;
	struct iovec local = {text, 2 * PAGE}, into = {ours, PAGE}, from = {theirs + PAGE, PAGE};
	struct iovec remote[2] = {{theirs + PAGE, PAGE + 100}, {theirs + 8 * PAGE, PAGE - 100}};
	int go[2], done[2];

	if (pipe(go) || pipe(done))
		return 1;
	mprotect(theirs + 4 * PAGE, 4 * PAGE, PROT_READ);
	mprotect(theirs + 12 * PAGE, 4 * PAGE, PROT_READ);
	mprotect(ours + 2 * PAGE, 2 * PAGE, PROT_READ);
	memset(text, 'q', sizeof(text));
	pid_t child = fork();
	if (child == 0) {
		read(go[0], &c, 1);
		mprotect(theirs + 4 * PAGE, 4 * PAGE, RW);
		mprotect(theirs + 12 * PAGE, 4 * PAGE, RW);
		write(done[1], "x", 1);
		read(go[0], &c, 1);
		_exit(0);
	}
	if (process_vm_writev(child, &local, 1, remote, 2, 0) != 2 * PAGE)
		return 2;
	write(go[1], "x", 1);
	read(done[0], &c, 1);
	if (process_vm_readv(child, &into, 1, &from, 1, 0) != PAGE)
		return 3;
	mprotect(ours + 2 * PAGE, 2 * PAGE, RW);
	write(go[1], "x", 1);
	wait(0);
	return 0;
}
