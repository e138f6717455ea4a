/* Map pages elsewhere, each a VMA, until only `room` VMAs more are allowed. */
static void fill_up(long room)
{
	unsigned long at = BASE + (1UL << 40);
	FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
	char perms[8], name[512];
	struct line line;
	long limit = 0, n;

	if (!file || fscanf(file, "%ld", &limit) != 1)
		skip("max_map_count");
	fclose(file);
	printf("# vm.max_map_count is %ld\n", limit);
	file = fopen("/proc/self/maps", "r");
	if (!file)
		skip("/proc/self/maps");
	for (n = limit - room; next_line(file, &line, perms, name);)
		if (strcmp(name, "[vsyscall]"))
			n--;
	fclose(file);
	errno = E2BIG;
	if (n < 1 || n > 4000000)
		skip("the map limit is too low or too high to get near");
	if (mmap((void *)at, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
		 -1, 0) != (void *)at)
		skip("pages to fill up with");
	for (n--; n > 0; n--)
		if (n % 2 && mprotect((void *)(at + n * PAGE), PAGE, PROT_READ))
			skip("mprotect to fill up");
}

