/* Prints sizes, offsets and values as the C compiler sees them; check.sh compares with layout.txt,
 * with which a test in Rust compares as well. Valid C11 and C++17. */
#include <stdio.h>

#include "identmap.h"

#define SIZE(type) printf("sizeof %s %zu\n", #type, sizeof(struct identmap_##type))
#define FIELD(type, field) printf("%s.%s %zu\n", #type, #field, offsetof(struct identmap_##type, field))
#define VALUE(name) printf("%s %d\n", #name, (int)name)

int main(void)
{
	SIZE(range); FIELD(range, start); FIELD(range, end);
	SIZE(config); FIELD(config, leaf_flags); FIELD(config, table_flags);
	FIELD(config, upper_table_flags); FIELD(config, encryption_mask); FIELD(config, offset);
	FIELD(config, levels); FIELD(config, gbpages); FIELD(config, maxphyaddr);
	FIELD(config, reserved);
	SIZE(policy); FIELD(policy, kind); FIELD(policy, slack); FIELD(policy, forbidden);
	FIELD(policy, forbidden_count); FIELD(policy, ram); FIELD(policy, ram_count);
	SIZE(job); FIELD(job, config); FIELD(job, policy); FIELD(job, requests);
	FIELD(job, request_count); FIELD(job, work); FIELD(job, work_words);
	SIZE(run); FIELD(run, start); FIELD(run, end); FIELD(run, page_size); FIELD(run, count);
	SIZE(summary); FIELD(summary, runs); FIELD(summary, tables);
	FIELD(summary, tables_by_level); FIELD(summary, mapped_bytes);
	SIZE(built); FIELD(built, root); FIELD(built, tables);
	SIZE(memory); FIELD(memory, context); FIELD(memory, available); FIELD(memory, allocate);
	FIELD(memory, table);
	SIZE(reader); FIELD(reader, context); FIELD(reader, entry);
	SIZE(step); FIELD(step, table); FIELD(step, entry); FIELD(step, level); FIELD(step, index);
	SIZE(walk); FIELD(walk, end); FIELD(walk, rights); FIELD(walk, value); FIELD(walk, size);
	FIELD(walk, step_count); FIELD(walk, steps);
	SIZE(error); FIELD(error, status); FIELD(error, index); FIELD(error, value);
	FIELD(error, list); FIELD(error, reserved); FIELD(error, text);
	VALUE(IDENTMAP_OK); VALUE(IDENTMAP_E_NULL); VALUE(IDENTMAP_E_MISALIGNED);
	VALUE(IDENTMAP_E_LENGTH); VALUE(IDENTMAP_E_OVERLAP); VALUE(IDENTMAP_E_RANGE);
	VALUE(IDENTMAP_E_CONFIG); VALUE(IDENTMAP_E_POLICY); VALUE(IDENTMAP_E_WORK);
	VALUE(IDENTMAP_E_RUNS); VALUE(IDENTMAP_E_PAST_LIMIT); VALUE(IDENTMAP_E_NOT_CANONICAL);
	VALUE(IDENTMAP_E_BOTH_HALVES); VALUE(IDENTMAP_E_CONFLICT); VALUE(IDENTMAP_E_EXHAUSTED);
	VALUE(IDENTMAP_E_MEMORY); VALUE(IDENTMAP_E_CUT); VALUE(IDENTMAP_E_UNKNOWN);
	return 0;
}
