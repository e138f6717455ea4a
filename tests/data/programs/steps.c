#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
/* Maps memory, waits for a byte, changes it from two threads, waits, changes it again. */
static char *p; static int in[2];
static void *other(void *arg){ char c; read(in[0],&c,1); mprotect(p+4096*4,4096,PROT_READ); madvise(p+4096*6,4096*2,MADV_DONTDUMP); munmap(p+4096*10,4096*2); return arg; }
int main(void){ char c; pthread_t t;
 p=mmap(0,4096*16,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); for(int i=0;i<16;i++) p[i*4096]=1;
 mmap(0,4096*4,PROT_READ,MAP_SHARED|MAP_ANONYMOUS,-1,0); pipe(in); pthread_create(&t,0,other,0);
 read(0,&c,1); mprotect(p,4096*2,PROT_READ); write(in[1],"x",1); pthread_join(t,0);
 read(0,&c,1); mprotect(p,4096*2,PROT_READ|PROT_WRITE); mprotect(p+4096*4,4096,PROT_READ|PROT_WRITE); madvise(p+4096*6,4096*2,MADV_DODUMP);
 mmap(p+4096*10,4096*2,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED,-1,0); read(0,&c,1); return 0; }
