/*
 * Serves Linux's kernel_ident_mapping_init() over stdin and stdout.
 *
 * Built by the Rust side (src/shim.rs) as
 *   gcc -O2 -DIDENT_MAP_C='"/path/to/ident_map.c"' [-DHAVE_FREE] oracle.c
 * with a source that fetch.sh took out of a linux-source package. HAVE_FREE says that the source has
 * kernel_ident_mapping_free() (6.12 and later).
 *
 * Protocol. Every word is a little-endian u64. A request batch is
 *     bytes that follow
 *     then sequences, each: levels (4 or 5), gbpages (0 or 1), offset, page_flag, kernpg_flag,
 *                           default_pte_mask, encryption_mask, table_base, max_tables, n,
 *                           n x (start, end)          physical, half-open
 * and its answer, sent when the whole batch was read,
 *     bytes that follow
 *     then, for each sequence: status, calls made, tables allocated, tables reachable from the root,
 *                              tables freed by kernel_ident_mapping_free (all ones: not in this
 *                              source), stray words (nonzero, but not present), number of links,
 *                              number of runs,
 *                              links x (level of the table that holds the entry, virt, flags)
 *                              runs x (virt, phys, flags, page size, count)
 * A link is an entry that points to a table; a run is a row of leaves of one size and with the same
 * flags, adjacent both in virtual and in physical addresses. Both are in order of virtual addresses
 * (links: a table before what it points to). Flags are the entry without the bits of its address:
 * the low bits, the high bits, the encryption bit, and for a large leaf whatever stands below its
 * alignment. Together they are every bit of the tables except where the tables lie, provided no
 * word is stray. Virtual addresses are canonical.
 *
 * Status: 0; 12 (ENOMEM) when max_tables did not suffice, then "calls made" says how many requests
 * succeeded before, and the tables are reported as they were left. A malformed batch, or tables that
 * no walk makes sense of, end the process with a line on stderr and status 3.
 *
 * Started with two arguments, ROUNDS and REPEATS, it measures: the batches are the same, but the answer
 * is, for each sequence
 *     status, tables allocated, ROUNDS x (nanoseconds of REPEATS builds,
 *                                         nanoseconds of REPEATS memsets of as many bytes to 0,
 *                                         the same to a byte that is not 0)
 * A build is all calls of the sequence in the arena, whose pages are there already: one round
 * goes before the first that counts. What Linux pays for a table's memory is the zeroing, as ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel.h"

bool shim_five_levels;
unsigned long shim_encryption_mask;
unsigned long __default_kernel_pte_mask;

#include IDENT_MAP_C

#define TABLE_BYTES 4096UL
#define ENTRIES 512
/* 256 MiB of tables; only the pages that requests use are ever touched. */
#define ARENA_TABLES 65536UL

static unsigned char *arena;
static uint8_t seen[ARENA_TABLES];
static unsigned long table_base, max_tables, allocated, freed;

static void fail(const char *what)
{
	fprintf(stderr, "oracle shim: %s\n", what);
	exit(3);
}

unsigned long shim_table_pa(const void *table)
{
	size_t at = (size_t)((const unsigned char *)table - arena);

	if (at % TABLE_BYTES || at / TABLE_BYTES >= allocated)
		fail("__pa() of something that is not a table");
	return table_base + at;
}

void *shim_table_va(unsigned long pa)
{
	unsigned long at = pa - table_base;

	if (pa < table_base || at % TABLE_BYTES || at / TABLE_BYTES >= allocated)
		fail("__va() of something that is not a table");
	return arena + at;
}

/* As get_zeroed_page() behind Linux's callers: zeroed when it is handed out, not before. */
static void *alloc_table(void *context)
{
	(void)context;
	if (allocated == max_tables)
		return NULL;
	return memset(arena + allocated++ * TABLE_BYTES, 0, TABLE_BYTES);
}

static void free_table(void *table, void *context)
{
	(void)context;
	shim_table_pa(table); /* is it one? */
	freed++;
}

/* A growing buffer of words, kept from batch to batch. */
struct words {
	uint64_t *at;
	size_t len, room;
};

static void reserve(struct words *w, size_t more)
{
	if (w->len + more <= w->room)
		return;
	w->room = (w->len + more) * 2;
	w->at = realloc(w->at, w->room * sizeof(uint64_t));
	if (!w->at)
		fail("out of memory");
}

static void put(struct words *w, uint64_t word)
{
	reserve(w, 1);
	w->at[w->len++] = word;
}

static struct words links, runs, answer;
static uint64_t reachable, stray;

static uint64_t canonical(uint64_t virt)
{
	int unused = shim_five_levels ? 7 : 16;

	return (uint64_t)((int64_t)(virt << unused) >> unused);
}

static void put_leaf(uint64_t virt, uint64_t entry, uint64_t size)
{
	uint64_t address_bits = PTE_PFN_MASK & ~(size - 1);
	uint64_t phys = entry & address_bits, flags = entry & ~address_bits;

	virt = canonical(virt);
	if (runs.len) {
		uint64_t *last = runs.at + runs.len - 5;
		uint64_t length = last[3] * last[4];

		if (last[0] + length == virt && last[1] + length == phys && last[2] == flags &&
		    last[3] == size) {
			last[4]++;
			return;
		}
	}
	put(&runs, virt);
	put(&runs, phys);
	put(&runs, flags);
	put(&runs, size);
	put(&runs, 1);
}

/* Our own walk, of the entries as the processor reads them: level 5 is the PML5, 1 the PTE table. */
static void walk(uint64_t pa, int level, uint64_t virt)
{
	const uint64_t *table = shim_table_va(pa);
	size_t number = (pa - table_base) / TABLE_BYTES;
	int shift = 12 + 9 * (level - 1);

	if (seen[number])
		fail("a table is reachable twice");
	seen[number] = 1;
	reachable++;
	for (int i = 0; i < ENTRIES; i++) {
		uint64_t entry = table[i], at = virt | (uint64_t)i << shift;

		if (!(entry & 1)) {
			stray += entry != 0;
		} else if (level == 1 || (level <= 3 && entry & _PAGE_PSE)) {
			put_leaf(at, entry, 1UL << shift);
		} else if (entry & _PAGE_PSE) {
			fail("PSE above the level of 1G pages");
		} else {
			put(&links, (uint64_t)level);
			put(&links, canonical(at));
			put(&links, entry & ~PTE_PFN_MASK);
			walk(entry & PTE_PFN_MASK, level - 1, at);
		}
	}
}

enum { LEVELS, GBPAGES, OFFSET, PAGE_FLAG, KERNPG_FLAG, PTE_MASK, ENC, BASE, MAX, N, RANGES };

/* Checks one sequence and takes over its settings. */
static struct x86_mapping_info settings(const uint64_t *request, size_t words)
{
	struct x86_mapping_info info = {
		.alloc_pgt_page = alloc_table,
		.free_pgt_page = free_table,
	};

	if (words < RANGES)
		fail("a sequence is cut short");
	if (request[N] > (words - RANGES) / 2)
		fail("a sequence has fewer ranges than it says");
	if ((request[LEVELS] != 4 && request[LEVELS] != 5) || request[GBPAGES] > 1)
		fail("levels or gbpages out of range");
	if (request[BASE] % TABLE_BYTES || request[BASE] & ~(SHIM_ADDRESS_BITS & ~request[ENC]) ||
	    !request[MAX] || request[MAX] > ARENA_TABLES)
		fail("table base or number of tables out of range");

	shim_five_levels = request[LEVELS] == 5;
	shim_encryption_mask = request[ENC];
	__default_kernel_pte_mask = request[PTE_MASK];
	table_base = request[BASE];
	max_tables = request[MAX];
	info.page_flag = request[PAGE_FLAG];
	info.offset = request[OFFSET];
	info.direct_gbpages = request[GBPAGES];
	info.kernpg_flag = request[KERNPG_FLAG];
	return info;
}

/* Linux's part: the calls of one sequence in an empty arena. Returns how many went well. */
static uint64_t build(struct x86_mapping_info *info, const uint64_t *request, int *status)
{
	uint64_t calls = 0;
	pgd_t *root;

	allocated = 0;
	*status = 0;
	root = alloc_table(NULL);
	for (; calls < request[N] && !*status; calls += !*status)
		*status = -kernel_ident_mapping_init(info, root, request[RANGES + 2 * calls],
						     request[RANGES + 2 * calls + 1]);
	return calls;
}

/* One sequence: Linux builds, our walk reads. Returns the words consumed of the request. */
static size_t serve(const uint64_t *request, size_t words)
{
	struct x86_mapping_info info = settings(request, words);
	uint64_t calls;
	int status;

	freed = reachable = stray = 0;
	links.len = runs.len = 0;
	calls = build(&info, request, &status);

	memset(seen, 0, allocated);
	walk(table_base, (int)request[LEVELS], 0);
#ifdef HAVE_FREE
	kernel_ident_mapping_free(&info, (pgd_t *)arena);
#else
	freed = UINT64_MAX;
#endif

	put(&answer, (uint64_t)status);
	put(&answer, calls);
	put(&answer, allocated);
	put(&answer, reachable);
	put(&answer, freed);
	put(&answer, stray);
	put(&answer, links.len / 3);
	put(&answer, runs.len / 5);
	reserve(&answer, links.len + runs.len);
	if (links.len)
		memcpy(answer.at + answer.len, links.at, links.len * sizeof(uint64_t));
	answer.len += links.len;
	if (runs.len)
		memcpy(answer.at + answer.len, runs.at, runs.len * sizeof(uint64_t));
	answer.len += runs.len;
	return RANGES + 2 * request[N];
}

/* Of this thread's processor time: on a busy machine the waits for a processor do not count. */
static uint64_t nanoseconds(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now))
		fail("no clock");
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Keeps the compiler from dropping stores that nothing here reads. */
static void keep(void)
{
	__asm__ volatile("" : : "r"(arena) : "memory");
}

/* So that whatever is measured next finds the same in the memory and in the caches. */
static void same_bytes(void)
{
	memset(arena, 0xe3, allocated * TABLE_BYTES);
	keep();
}

/* REPEATS memsets of all tables to this byte: how long they take. */
static uint64_t fill(int byte, uint64_t repeats)
{
	uint64_t start;

	same_bytes();
	start = nanoseconds();
	for (uint64_t i = 0; i < repeats; i++, keep())
		memset(arena, byte, allocated * TABLE_BYTES);
	return nanoseconds() - start;
}

/* One sequence, measured. Returns the words consumed of the request. */
static size_t measure(const uint64_t *request, size_t words, uint64_t rounds, uint64_t repeats)
{
	struct x86_mapping_info info = settings(request, words);
	int status;

	build(&info, request, &status);
	put(&answer, (uint64_t)status);
	put(&answer, allocated);
	for (uint64_t round = 0; round < rounds; round++) {
		uint64_t start;

		same_bytes();
		start = nanoseconds();
		for (uint64_t i = 0; i < repeats; i++, keep())
			build(&info, request, &status);
		put(&answer, nanoseconds() - start);
		put(&answer, fill(0, repeats));
		put(&answer, fill(0xe3, repeats));
	}
	return RANGES + 2 * request[N];
}

static uint64_t positive(const char *text)
{
	char *end;
	uint64_t number = strtoull(text, &end, 10);

	if (*end || !number)
		fail("ROUNDS and REPEATS are numbers from 1 on");
	return number;
}

int main(int argc, char **argv)
{
	struct words batch = { 0 };
	uint64_t rounds = 0, repeats = 0;

	if (argc == 3) {
		rounds = positive(argv[1]);
		repeats = positive(argv[2]);
	} else if (argc != 1) {
		fail("usage: oracle [ROUNDS REPEATS]");
	}
	arena = aligned_alloc(TABLE_BYTES, ARENA_TABLES * TABLE_BYTES);
	if (!arena)
		fail("out of memory");
	for (;;) {
		uint64_t bytes;
		size_t got = fread(&bytes, 1, sizeof(bytes), stdin), at = 0;

		if (!got && feof(stdin))
			return 0;
		if (got != sizeof(bytes) || bytes % sizeof(uint64_t) || bytes > 1UL << 30)
			fail("a batch has no proper length");
		batch.len = 0;
		reserve(&batch, bytes / sizeof(uint64_t));
		if (fread(batch.at, 1, bytes, stdin) != bytes)
			fail("a batch is cut short");
		batch.len = bytes / sizeof(uint64_t);

		answer.len = 0;
		put(&answer, 0); /* the length, known at the end */
		while (at < batch.len)
			at += rounds ? measure(batch.at + at, batch.len - at, rounds, repeats)
				     : serve(batch.at + at, batch.len - at);
		answer.at[0] = (answer.len - 1) * sizeof(uint64_t);
		if (fwrite(answer.at, sizeof(uint64_t), answer.len, stdout) != answer.len ||
		    fflush(stdout))
			fail("nobody reads the answer");
	}
}
