#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
/* Seals a page, and asks for what the seal forbids; status 9 where the kernel has no mseal. */
int main(void){ char *p=mmap(0,4096*3,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); p[0]=1;
 if (syscall(462,p+4096,4096UL,0UL)) return 9;
 mprotect(p,4096*3,PROT_READ); munmap(p,4096*3); return 0; }
