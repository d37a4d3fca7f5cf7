/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Plans and builds the identity map of a machine, as a boot loader would, and prints its runs.
 *
 * The memory is that of the low end of an HPE Superdome Flex as posted by Steve Wahl
 * (https://lore.kernel.org/all/20190924163236.GA8138@swahl-linux/): behind the RAM lies reserved
 * memory that no active page table entry may reach, or the machine halts. Linux's rule of before
 * 2024, round-out, reaches it; guarded does not.
 */
#include <inttypes.h>
#include <stdio.h>

#include "identmap.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct identmap_range ram[] = {
	{0x0000000000, 0x0072c4e000},
	{0x3040000000, 0x5f7c000000},
};
static const struct identmap_range reserved[] = {
	{0x0072c4e000, 0x0073a30000},
	{0x5f7c000000, 0x6040000000},
};

/* Lent to the library; nothing is allocated. Where the tables go, a boot loader knows better. */
static uint64_t work[IDENTMAP_WORK_WORDS(COUNT(ram), COUNT(reserved), 0)];
static _Alignas(4096) unsigned char tables[16][4096];

/* A boot loader's tables lie at their own address; these are read as if they lay at 1 MiB. */
static const uint64_t base = 0x100000;

static int fail(const char *what, const struct identmap_error *error)
{
	fprintf(stderr, "%s: %s (%s)\n", what, error->text, identmap_status_name(error->status));
	return 1;
}

static int show(const char *name, const struct identmap_job *job)
{
	struct identmap_run runs[16];
	struct identmap_summary summary;
	struct identmap_error error;

	if (identmap_plan(job, runs, COUNT(runs), &summary, &error) != IDENTMAP_OK)
		return fail(name, &error);
	printf("%s: %" PRIu64 " tables\n", name, summary.tables);
	for (uint64_t i = 0; i < summary.runs; i++)
		printf("  0x%010" PRIx64 "-0x%010" PRIx64 " %7" PRIu64 " KiB x %" PRIu64 "\n",
		       runs[i].start, runs[i].end - 1, runs[i].page_size / 1024, runs[i].count);
	return 0;
}

int main(void)
{
	struct identmap_job job = {
		.requests = ram,
		.request_count = COUNT(ram),
		.work = work,
		.work_words = COUNT(work),
	};
	struct identmap_built built;
	struct identmap_walk walk;
	struct identmap_error error;

	identmap_kexec_config(&job.config, 4, 1);
	job.policy.kind = IDENTMAP_ROUND_OUT;
	if (show("round-out", &job))
		return 1;

	job.policy.kind = IDENTMAP_GUARDED;
	job.policy.slack = IDENTMAP_SLACK_ANY;
	job.policy.forbidden = reserved;
	job.policy.forbidden_count = COUNT(reserved);
	if (show("guarded", &job))
		return 1;

	if (identmap_build(&job, tables, COUNT(tables), base, &built, &error) != IDENTMAP_OK)
		return fail("build", &error);
	printf("CR3 = 0x%" PRIx64 ", %" PRIu64 " tables written\n", built.root, built.tables);

	/* The last byte of the low RAM leads to itself, the first reserved one nowhere. */
	for (uint64_t addr = ram[0].end - 1; addr <= reserved[0].start; addr++) {
		if (identmap_walk_image(&job.config, tables, sizeof(tables), base, built.root, addr,
					&walk, &error) != IDENTMAP_OK)
			return fail("walk", &error);
		printf("0x%" PRIx64 " %s\n", addr,
		       walk.end == IDENTMAP_MAPPED && walk.value == addr ? "leads to itself"
		       : walk.end == IDENTMAP_NOT_PRESENT                ? "is not mapped"
									 : "is something else");
	}
	return 0;
}
