/* What a caller can do wrong, and what must work: every status that C can bring about. Valid C11
 * and C++17. Ends with 1, and says where, at the first answer that is not the expected one. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "identmap.h"

#define GIB 0x40000000ull
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* The low 12 bits of `pool` are cleared to get aligned pages. */
static unsigned char pool[12 * 4096];
static int failed;

#define EXPECT(wanted, call)                                                                      \
	do {                                                                                      \
		int32_t got = (call);                                                             \
		if (got != (int32_t)(wanted) || error.status != got) {                            \
			printf("misuse.c:%d: got %s (%s), wanted %s\n", __LINE__,                 \
			       identmap_status_name(got), error.text,                             \
			       identmap_status_name(wanted));                                     \
			failed = 1;                                                               \
		}                                                                                 \
	} while (0)

#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			printf("misuse.c:%d: not so: %s\n", __LINE__, #condition);                \
			failed = 1;                                                               \
		}                                                                                 \
	} while (0)

struct given {
	unsigned char *pages;
	uint64_t base, used, count;
	int fault; /* 1: allocate refuses, 2: table is null, 3: table is misaligned, 4: unaligned page */
};

static uint64_t available(void *context)
{
	const struct given *given = (const struct given *)context;
	return given->count - given->used;
}

static uint64_t allocate(void *context)
{
	struct given *given = (struct given *)context;
	if (given->fault == 1)
		return UINT64_MAX;
	return given->base + 4096 * given->used++ + (given->fault == 4);
}

static uint64_t *table(void *context, uint64_t physical)
{
	struct given *given = (struct given *)context;
	if (given->fault == 2)
		return NULL;
	return (uint64_t *)(void *)(given->pages + (physical - given->base) + (given->fault == 3 ? 8 : 0));
}

static int32_t entry(void *context, uint64_t physical, uint32_t index, uint64_t *bits)
{
	const struct given *given = (const struct given *)context;
	if (physical < given->base || (physical - given->base) / 4096 >= given->used)
		return -1;
	memcpy(bits, given->pages + (physical - given->base) + (size_t)index * 8, 8);
	return 0;
}

int main(void)
{
	unsigned char *pages = (unsigned char *)(((uintptr_t)pool + 4095) & ~(uintptr_t)4095);
	const struct identmap_range requests[2] = {{0, 0x72c4e000}, {4 * GIB, 5 * GIB}};
	const struct identmap_range forbidden[1] = {{0x72c4e000, 0x73a30000}};
	const struct identmap_range wrong[1] = {{8, 8}};
	const struct identmap_range high[1] = {{0, 1ull << 52}};
	static uint64_t work[IDENTMAP_WORK_WORDS(2, 1, 1)];
	struct identmap_run runs[8];
	struct identmap_summary summary;
	struct identmap_built built;
	struct identmap_walk walk;
	struct identmap_error error;
	struct identmap_job good, job;
	char text[IDENTMAP_EXPLAIN_BYTES];

	memset(&good, 0, sizeof(good));
	memset(&error, 0, sizeof(error));
	CHECK(identmap_kexec_config(&good.config, 4, 1) == IDENTMAP_OK);
	CHECK(identmap_kexec_config(&good.config, 3, 1) == IDENTMAP_E_CONFIG);
	CHECK(identmap_kexec_config(NULL, 4, 1) == IDENTMAP_E_NULL);
	CHECK(good.config.leaf_flags == 0x163 && good.config.maxphyaddr == 52);
	good.policy.kind = IDENTMAP_GUARDED;
	good.policy.forbidden = forbidden;
	good.policy.forbidden_count = COUNT(forbidden);
	good.requests = requests;
	good.request_count = COUNT(requests);
	good.work = work;
	good.work_words = COUNT(work);

	/* What works. 1 GiB, then 2 MiB up to the border, then 4 KiB; the upper GiB. */
	EXPECT(IDENTMAP_OK, identmap_plan(&good, runs, COUNT(runs), &summary, &error));
	CHECK(summary.runs == 4 && summary.tables == 4 && summary.mapped_bytes == 0x72c4e000 + GIB);
	CHECK(runs[0].page_size == GIB && runs[0].count == 1 && runs[2].page_size == 4096);
	CHECK(runs[2].end == 0x72c4e000 && runs[2].count == 78 && runs[3].start == 4 * GIB);
	CHECK(error.text[0] == 0);
	EXPECT(IDENTMAP_OK, identmap_plan(&good, NULL, 0, &summary, &error));
	CHECK(identmap_plan(&good, runs, COUNT(runs), NULL, NULL) == IDENTMAP_OK);
	memset(pool, 0xff, sizeof(pool));
	EXPECT(IDENTMAP_OK, identmap_build(&good, pages, 4, 0x100000, &built, &error));
	CHECK(built.root == 0x100000 && built.tables == 4);
	EXPECT(IDENTMAP_OK, identmap_walk_image(&good.config, pages, 4 * 4096, 0x100000, built.root,
						0x72c4dfff, &walk, &error));
	CHECK(walk.end == IDENTMAP_MAPPED && walk.value == 0x72c4dfff && walk.size == 4096);
	CHECK(walk.step_count == 4 && walk.steps[0].level == 4 && walk.steps[3].level == 1);
	CHECK(walk.rights == (IDENTMAP_RIGHT_WRITE | IDENTMAP_RIGHT_EXECUTE));
	EXPECT(IDENTMAP_OK, identmap_walk_image(&good.config, pages, 4 * 4096, 0x100000, built.root,
						0x72c4e000, &walk, &error));
	CHECK(walk.end == IDENTMAP_NOT_PRESENT);
	/* An image that ends before the page table: not known, never "not mapped". */
	EXPECT(IDENTMAP_OK, identmap_walk_image(&good.config, pages, 2 * 4096, 0x100000, built.root,
						0x72c4dfff, &walk, &error));
	CHECK(walk.end == IDENTMAP_UNREADABLE && walk.size != 0);
	EXPECT(IDENTMAP_OK, identmap_walk_image(&good.config, NULL, 0, 0, built.root, 1ull << 47,
						&walk, &error));
	CHECK(walk.end == IDENTMAP_NON_CANONICAL && walk.step_count == 0);

	/* By calls, and every way to break their promises. */
	struct given given = {pages, 0x200000, 0, 4, 0};
	struct identmap_memory memory = {&given, available, allocate, table};
	struct identmap_reader reader = {&given, entry};
	EXPECT(IDENTMAP_OK, identmap_build_with(&good, &memory, &built, &error));
	CHECK(given.used == 4 && built.root == 0x200000);
	EXPECT(IDENTMAP_OK, identmap_walk(&good.config, &reader, built.root, 0x1000, &walk, &error));
	CHECK(walk.end == IDENTMAP_MAPPED && walk.value == 0x1000 && walk.size == GIB);
	EXPECT(IDENTMAP_OK, identmap_explain(&good.config, &reader, built.root, 0x72c4dfff, text,
					     sizeof(text), &error));
	CHECK(strstr(text, "leads to 0x0000000072c4dfff, a leaf of 4K") != NULL);
	memset(text, 'x', sizeof(text));
	EXPECT(IDENTMAP_E_CUT, identmap_explain(&good.config, &reader, built.root, 0x72c4dfff, text,
						16, &error));
	CHECK(text[15] == 0 && text[16] == 'x' && error.value > 16);
	EXPECT(IDENTMAP_E_EXHAUSTED, identmap_build_with(&good, &memory, &built, &error));
	CHECK(error.value == 4);
	for (given.fault = 1; given.fault <= 4; given.fault++) {
		given.used = 0;
		EXPECT(IDENTMAP_E_MEMORY, identmap_build_with(&good, &memory, &built, &error));
	}
	memory.table = NULL;
	EXPECT(IDENTMAP_E_NULL, identmap_build_with(&good, &memory, &built, &error));
	EXPECT(IDENTMAP_E_NULL, identmap_build_with(&good, NULL, &built, &error));
	reader.entry = NULL;
	EXPECT(IDENTMAP_E_NULL, identmap_walk(&good.config, &reader, 0, 0, &walk, &error));
	EXPECT(IDENTMAP_E_NULL, identmap_walk(&good.config, NULL, 0, 0, &walk, &error));
	EXPECT(IDENTMAP_E_NULL, identmap_walk_image(NULL, pages, 4096, 0, 0, 0, &walk, &error));
	EXPECT(IDENTMAP_E_NULL, identmap_walk_image(&good.config, NULL, 1, 0, 0, 0, &walk, &error));
	EXPECT(IDENTMAP_E_MEMORY, identmap_walk_image(&good.config, pages, 4096, 0, 8, 0, &walk, &error));
	EXPECT(IDENTMAP_E_MEMORY,
	       identmap_walk_image(&good.config, pages, 4096, UINT64_MAX, 0, 0, &walk, &error));
	EXPECT(IDENTMAP_E_LENGTH,
	       identmap_walk_image(&good.config, pages, SIZE_MAX, 0, 0, 0, &walk, &error));

	/* Pointers and lengths. */
	EXPECT(IDENTMAP_E_NULL, identmap_plan(NULL, runs, COUNT(runs), &summary, &error));
	EXPECT(IDENTMAP_E_NULL, identmap_plan(&good, NULL, 1, &summary, &error));
	EXPECT(IDENTMAP_E_LENGTH, identmap_plan(&good, runs, SIZE_MAX, &summary, &error));
	EXPECT(IDENTMAP_E_LENGTH, identmap_plan(&good, runs, SIZE_MAX / 63, &summary, &error));
	EXPECT(IDENTMAP_E_MISALIGNED,
	       identmap_plan(&good, (struct identmap_run *)(void *)(pages + 1), 1, &summary, &error));
	EXPECT(IDENTMAP_E_MISALIGNED,
	       identmap_plan((const struct identmap_job *)(void *)(pages + 4), runs, 1, NULL, &error));
	EXPECT(IDENTMAP_E_RUNS, identmap_plan(&good, runs, 1, &summary, &error));
	CHECK(error.value == 4 && summary.runs == 4 && runs[0].page_size == GIB);
	CHECK(identmap_plan(&good, runs, 8, NULL, (struct identmap_error *)(void *)(pages + 1)) ==
	      IDENTMAP_E_MISALIGNED);
	EXPECT(IDENTMAP_E_OVERLAP,
	       identmap_plan(&good, (struct identmap_run *)(void *)work, 1, &summary, &error));
	EXPECT(IDENTMAP_E_OVERLAP,
	       identmap_plan(&good, runs, 8, (struct identmap_summary *)(void *)&runs[1], &error));
	EXPECT(IDENTMAP_E_MISALIGNED, identmap_build(&good, pages + 8, 4, 0, &built, &error));
	EXPECT(IDENTMAP_E_NULL, identmap_build(&good, NULL, 4, 0, &built, &error));
	EXPECT(IDENTMAP_E_LENGTH, identmap_build(&good, pages, SIZE_MAX / 4096, 0, &built, &error));
	EXPECT(IDENTMAP_E_EXHAUSTED, identmap_build(&good, pages, 3, 0, &built, &error));
	EXPECT(IDENTMAP_E_EXHAUSTED, identmap_build(&good, NULL, 0, 0, &built, &error));
	EXPECT(IDENTMAP_E_MEMORY, identmap_build(&good, pages, 4, 0x800, &built, &error));
	EXPECT(IDENTMAP_E_MEMORY, identmap_build(&good, pages, 4, UINT64_MAX, &built, &error));

	/* The job. */
#define WITH(status, field, other)                                                                \
	do {                                                                                      \
		job = good;                                                                       \
		job.field = other;                                                                \
		EXPECT(status, identmap_plan(&job, runs, COUNT(runs), &summary, &error));         \
	} while (0)
	WITH(IDENTMAP_E_NULL, requests, NULL);
	WITH(IDENTMAP_E_MISALIGNED, requests, (const struct identmap_range *)(void *)(pages + 4));
	WITH(IDENTMAP_E_LENGTH, request_count, SIZE_MAX);
	WITH(IDENTMAP_E_LENGTH, request_count, SIZE_MAX / 31);
	WITH(IDENTMAP_E_NULL, work, NULL);
	WITH(IDENTMAP_E_OVERLAP, work, (uint64_t *)(void *)(uintptr_t)requests);
	WITH(IDENTMAP_E_WORK, work_words, 4);
	CHECK(error.value == IDENTMAP_WORK_WORDS(2, 1, 0));
	WITH(IDENTMAP_E_RANGE, requests, wrong);
	CHECK(error.list == 1 && error.index == 0);
	WITH(IDENTMAP_E_RANGE, policy.forbidden, wrong);
	CHECK(error.list == 2);
	WITH(IDENTMAP_E_CONFIG, config.levels, 6);
	WITH(IDENTMAP_E_CONFIG, config.gbpages, 2);
	WITH(IDENTMAP_E_CONFIG, config.maxphyaddr, 53);
	WITH(IDENTMAP_E_CONFIG, config.reserved[4], 1);
	WITH(IDENTMAP_E_CONFIG, config.leaf_flags, 0);
	WITH(IDENTMAP_E_PAST_LIMIT, config.maxphyaddr, 32);
	CHECK(error.index == 1 && error.value == 4 * GIB);
	WITH(IDENTMAP_E_NOT_CANONICAL, config.offset, 1ull << 47);
	WITH(IDENTMAP_E_BOTH_HALVES, config.offset, 0 - 2 * GIB);
	WITH(IDENTMAP_E_POLICY, policy.kind, 3);
	WITH(IDENTMAP_E_POLICY, policy.slack, 3);
	/* Forbidden ranges that the policy would not heed are never dropped in silence. */
	WITH(IDENTMAP_E_POLICY, policy.kind, IDENTMAP_EXACT);
	WITH(IDENTMAP_E_POLICY, policy.ram_count, 1);
	WITH(IDENTMAP_E_CONFLICT, policy.forbidden, requests);
	job = good;
	job.policy.forbidden_count = 0;
	job.policy.kind = IDENTMAP_ROUND_OUT;
	EXPECT(IDENTMAP_OK, identmap_plan(&job, runs, COUNT(runs), &summary, &error));
	CHECK(summary.runs == 2 && runs[0].count == 2 && runs[1].page_size == GIB);
	job.policy.kind = IDENTMAP_EXACT;
	EXPECT(IDENTMAP_OK, identmap_plan(&job, runs, COUNT(runs), &summary, &error));
	CHECK(runs[1].page_size == 0x200000);
	job.requests = high;
	job.request_count = 1;
	EXPECT(IDENTMAP_E_NOT_CANONICAL, identmap_plan(&job, runs, COUNT(runs), &summary, &error));
	job.request_count = 0;
	EXPECT(IDENTMAP_OK, identmap_plan(&job, runs, COUNT(runs), &summary, &error));
	CHECK(summary.runs == 0 && summary.tables == 1);
	job = good;
	job.policy.slack = IDENTMAP_SLACK_RAM;
	job.policy.ram = requests;
	job.policy.ram_count = 1;
	EXPECT(IDENTMAP_OK, identmap_plan(&job, runs, COUNT(runs), &summary, &error));
	job.policy.slack = IDENTMAP_SLACK_ANY;
	job.policy.ram_count = 0;
	EXPECT(IDENTMAP_OK, identmap_plan(&job, runs, COUNT(runs), &summary, &error));

	CHECK(strcmp(identmap_status_name(IDENTMAP_E_CONFLICT), "conflict") == 0);
	CHECK(strcmp(identmap_status_name(-1), "unknown") == 0);
	CHECK(strcmp(identmap_status_name(18), "unknown") == 0);
	return failed;
}
