#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/shm.h>
#include <unistd.h>
#include <fcntl.h>
#include <pthread.h>
/* One call of each kind, a thread, a fork, a vfork and exec: for samples of tracers' output. */
static void *work(void *arg){ char *q=mmap(0,16384,PROT_NONE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); mprotect(q,4096,PROT_READ|PROT_WRITE); usleep(2000); munmap(q,16384); return arg;}
int main(void){ int st; char *p=mmap(0,16*4096,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE,-1,0);
 mprotect(p,4096,PROT_NONE); mprotect(p+1,4096,PROT_READ); mprotect(p,4096,PROT_READ|PROT_EXEC); madvise(p,8192,MADV_DONTFORK); madvise(p,8192,MADV_DOFORK); madvise(p,4096,999); madvise(p+8192,4096,MADV_DONTNEED);
 mlock(p+8192,4096); mlock2(p+8192,4096,MLOCK_ONFAULT); munlock(p+8192,4096); mlockall(MCL_CURRENT|MCL_FUTURE); munlockall(); msync(p,4096,MS_SYNC); unsigned char v[4]; mincore(p,8192,v);
 p=mremap(p+8*4096,4096,8192,MREMAP_MAYMOVE); p=mremap(p,8192,4096,0); mremap(p,4096,4096,MREMAP_MAYMOVE|MREMAP_FIXED,p+0x100000); sbrk(4096*4); 
 prctl(PR_SET_VMA,PR_SET_VMA_ANON_NAME,p+0x100000,4096,"name"); int fd=open("/bin/true",O_RDONLY|O_CLOEXEC); char *f=mmap(0,8192,PROT_READ,MAP_PRIVATE,fd,4096); char *g=mmap(0,4096,PROT_READ|PROT_WRITE,MAP_SHARED,fd,0); dup(fd); dup2(fd,9); fcntl(fd,F_DUPFD_CLOEXEC,20); close(fd); munmap(f,8192); (void)g;
 int m=memfd_create("mm",0); ftruncate(m,8192); mmap(0,8192,PROT_READ,MAP_SHARED,m,0); int id=shmget(IPC_PRIVATE,8192,IPC_CREAT|0600); char *s=shmat(id,0,0); shmctl(id,IPC_RMID,0); shmdt(s); syscall(SYS_mbind,p+0x100000,4096,0,0,0,0); syscall(SYS_pkey_alloc,0,0); mmap((void*)0x10000,4096,PROT_READ,MAP_FIXED|MAP_ANONYMOUS|MAP_PRIVATE,-1,0);
 pthread_t t; pthread_create(&t,0,work,0); pthread_join(t,0); if(!fork()){ mprotect(p+0x100000,4096,PROT_NONE); _exit(3);} wait(&st); if(!vfork()){ execl("/bin/true","true",(char*)0); _exit(1);} wait(&st); return 0; }
