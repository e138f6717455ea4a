#include <sys/mman.h>
#include <unistd.h>
#include <string.h>
#include <stdio.h>
#include <pthread.h>
static void *work(void *arg){ char *q=mmap(0,16384,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); q[0]=1; volatile char c=q[4096]; (void)c; mprotect(q,4096,PROT_READ); munmap(q,16384); return arg;}
int main(void){ char *p=mmap(0,8*4096,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); p[0]=1; volatile char c=p[4096]; (void)c;
 mprotect(p+4096*2,4096,PROT_READ); int fd[2]; pipe(fd); write(fd[1],"x",1); read(fd[0],p+5*4096,1); 
 pthread_t t; pthread_create(&t,0,work,0); pthread_join(t,0); mprotect(p+4096*2,4096,PROT_READ|PROT_WRITE); munmap(p,8*4096); return 0;}
