/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * identmap for C: plan, build and walk x86-64 identity maps.
 *
 * Nothing is allocated and nothing is kept between calls: every function works in memory that the
 * caller lends for the length of the call. Addresses are physical unless called virtual; ranges are
 * half-open (`end` is the first byte behind). Functions may be called from several threads at a time
 * with different memory.
 *
 * Every function but identmap_status_name() returns 0 (IDENTMAP_OK) or another identmap_status, and
 * describes it in *error unless `error` is null. Errors: null or misaligned pointers, lengths that no
 * memory has, and memory that overlaps although it is written. What cannot be checked, and is the
 * caller's word: that a pointer which is not null points to as many elements as it says.
 */
#ifndef IDENTMAP_H
#define IDENTMAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum identmap_status {
	IDENTMAP_OK = 0,
	IDENTMAP_E_NULL = 1,          /* a pointer that is needed is null */
	IDENTMAP_E_MISALIGNED = 2,    /* a pointer is not a multiple of 8, or of 4096 for tables */
	IDENTMAP_E_LENGTH = 3,        /* a count whose bytes do not fit in an address space */
	IDENTMAP_E_OVERLAP = 4,       /* memory lent for writing overlaps other memory of the call */
	IDENTMAP_E_RANGE = 5,         /* a range is empty or reaches past 2^52; error.list, .index */
	IDENTMAP_E_CONFIG = 6,        /* a field of the configuration is not sound */
	IDENTMAP_E_POLICY = 7,        /* no such policy or slack, or ranges that it does not heed */
	IDENTMAP_E_WORK = 8,          /* too little work memory; error.value words are enough */
	IDENTMAP_E_RUNS = 9,          /* too little room for runs; error.value are enough */
	IDENTMAP_E_PAST_LIMIT = 10,   /* a request reaches past 2^maxphyaddr; error.index */
	IDENTMAP_E_NOT_CANONICAL = 11, /* a request has no canonical virtual address; error.index */
	IDENTMAP_E_BOTH_HALVES = 12,  /* requests in both halves of the virtual addresses */
	IDENTMAP_E_CONFLICT = 13,     /* a request meets a forbidden range; .index, .value: the page */
	IDENTMAP_E_EXHAUSTED = 14,    /* too few tables, none was written; error.value are enough */
	IDENTMAP_E_MEMORY = 15,       /* tables cannot stand at that address; error.value */
	IDENTMAP_E_CUT = 16,          /* text was cut; error.value bytes are enough */
	IDENTMAP_E_UNKNOWN = 17
};

enum identmap_policy_kind {
	/* With 1 GiB leaves allowed, every GiB touched becomes one; else 2 MiB leaves. */
	IDENTMAP_ROUND_OUT = 0,
	/* A 1 GiB leaf only where the first request that touches the GiB covers it; else 2 MiB leaves. */
	IDENTMAP_EXACT = 1,
	/* The largest leaf that touches no forbidden byte, down to 4 KiB. */
	IDENTMAP_GUARDED = 2
};

/* How far leaves of IDENTMAP_GUARDED may reach beyond the pages of the requests. */
enum identmap_slack {
	IDENTMAP_SLACK_NONE = 0,
	IDENTMAP_SLACK_RAM = 1, /* over whole pages of `ram` */
	IDENTMAP_SLACK_ANY = 2  /* over anything that is not forbidden */
};

struct identmap_range {
	uint64_t start;
	uint64_t end; /* greater than start, at most 2^52 */
};

/* What the tables shall look like. identmap_kexec_config() fills in what Linux uses. */
struct identmap_config {
	uint64_t leaf_flags;        /* of every leaf, P among them; PS is added by itself */
	uint64_t table_flags;       /* of entries that point to a PD or PT */
	uint64_t upper_table_flags; /* of entries of a PML4 or PML5 */
	uint64_t encryption_mask;   /* the C-bit as a mask, or 0 */
	uint64_t offset;            /* virtual minus physical, modulo 2^64; 0 for an identity map */
	uint8_t levels;             /* 4 or 5 */
	uint8_t gbpages;            /* 0 or 1: the processor has pdpe1gb */
	uint8_t maxphyaddr;         /* 32 to 52: CPUID 80000008H EAX[7:0] */
	uint8_t reserved[5];        /* 0 */
};

struct identmap_policy {
	uint32_t kind;  /* enum identmap_policy_kind */
	uint32_t slack; /* enum identmap_slack; 0 unless guarded */
	const struct identmap_range *forbidden; /* guarded only; any order, overlaps allowed */
	size_t forbidden_count;
	const struct identmap_range *ram; /* IDENTMAP_SLACK_RAM only */
	size_t ram_count;
};

/* Words (uint64_t) of work memory for a job with so many ranges. A constant if they are. */
#define IDENTMAP_WORK_WORDS(requests, forbidden, ram) \
	((size_t)26 * (requests) + (size_t)5 * ((size_t)(forbidden) + (ram)) + 3)

/* What shall be mapped, and memory to think in. */
struct identmap_job {
	struct identmap_config config;
	struct identmap_policy policy;
	const struct identmap_range *requests; /* the order matters to IDENTMAP_EXACT */
	size_t request_count;
	uint64_t *work; /* may hold anything; is written */
	size_t work_words;
};

/* Equal leaves, one behind the other. */
struct identmap_run {
	uint64_t start;
	uint64_t end;
	uint64_t page_size; /* 4096, 2097152 or 1073741824 */
	uint64_t count;
};

struct identmap_summary {
	uint64_t runs;
	uint64_t tables;             /* 4096 bytes each, the root included */
	uint64_t tables_by_level[5]; /* PT, PD, PDPT, PML4, PML5 */
	uint64_t mapped_bytes;
};

struct identmap_built {
	uint64_t root; /* for CR3 */
	uint64_t tables;
};

/* Tables that the caller gives out one by one. */
struct identmap_memory {
	void *context;
	/* How many times allocate() will succeed. */
	uint64_t (*available)(void *context);
	/* The physical address of a fresh page; UINT64_MAX if there is none. */
	uint64_t (*allocate)(void *context);
	/* Where that page can be written: 4096 bytes at a multiple of 4096; null if nowhere. */
	uint64_t *(*table)(void *context, uint64_t physical);
};

/* Tables that the caller reads. */
struct identmap_reader {
	void *context;
	/* Entry `index` (0 to 511) of a table into *bits, and 0; not 0 if it cannot be read. */
	int32_t (*entry)(void *context, uint64_t physical, uint32_t index, uint64_t *bits);
};

enum identmap_walk_end {
	IDENTMAP_MAPPED = 0,       /* value: where it leads; size: bytes of the leaf; rights */
	IDENTMAP_NOT_PRESENT = 1,
	IDENTMAP_RESERVED = 2,     /* value: the reserved bits that are set */
	IDENTMAP_UNREADABLE = 3,   /* value: the table; size: its level. Not known, so not "unmapped" */
	IDENTMAP_NON_CANONICAL = 4
};

#define IDENTMAP_RIGHT_WRITE 1u
#define IDENTMAP_RIGHT_USER 2u
#define IDENTMAP_RIGHT_EXECUTE 4u

struct identmap_step {
	uint64_t table; /* its physical address */
	uint64_t entry; /* as it stands there */
	uint32_t level; /* 1 for a PT up to 5 for a PML5 */
	uint32_t index; /* 0 to 511 */
};

struct identmap_walk {
	uint32_t end; /* enum identmap_walk_end */
	uint32_t rights;
	uint64_t value;
	uint64_t size;
	uint64_t step_count;
	struct identmap_step steps[5]; /* from the root down */
};

struct identmap_error {
	int32_t status;
	uint32_t index; /* which request or range, from 0 */
	uint64_t value;
	uint32_t list; /* index counts: 0 nothing, 1 requests, 2 forbidden, 3 ram */
	uint32_t reserved;
	char text[232]; /* one line, always with a NUL */
};

/* "conflict" for IDENTMAP_E_CONFLICT; "unknown" for a number that is no status. Never null. */
const char *identmap_status_name(int32_t status);

/* init_pgtable() of Linux without memory encryption; levels 4 or 5; 52 address bits. */
int32_t identmap_kexec_config(struct identmap_config *config, uint32_t levels, uint32_t gbpages);

/*
 * Plans. `summary` may be null, and so may `runs` if run_capacity is 0: then only numbers are
 * wanted. With too little room the first runs and the summary are written all the same.
 */
int32_t identmap_plan(const struct identmap_job *job, struct identmap_run *runs,
		      size_t run_capacity, struct identmap_summary *summary,
		      struct identmap_error *error);

/*
 * Plans and builds in table_count pages at `tables` (a multiple of 4096), the first of which is, or
 * will be, at the physical address `base`. They may hold anything before. `built` may be null.
 */
int32_t identmap_build(const struct identmap_job *job, void *tables, size_t table_count,
		       uint64_t base, struct identmap_built *built, struct identmap_error *error);

/* The same in tables that the caller gives out; they must not lie in the job's memory. */
int32_t identmap_build_with(const struct identmap_job *job, const struct identmap_memory *memory,
			    struct identmap_built *built, struct identmap_error *error);

/* Translates a virtual address as a processor with NX and 1 GiB leaves does. */
int32_t identmap_walk(const struct identmap_config *config, const struct identmap_reader *reader,
		      uint64_t root, uint64_t virt, struct identmap_walk *walk,
		      struct identmap_error *error);

/* The same in an image of physical memory that begins at `base`; any alignment, any length. */
int32_t identmap_walk_image(const struct identmap_config *config, const void *image, size_t bytes,
			    uint64_t base, uint64_t root, uint64_t virt, struct identmap_walk *walk,
			    struct identmap_error *error);

/* Walks and writes what was met as lines of text. IDENTMAP_EXPLAIN_BYTES hold every walk. */
#define IDENTMAP_EXPLAIN_BYTES 1024
int32_t identmap_explain(const struct identmap_config *config,
			 const struct identmap_reader *reader, uint64_t root, uint64_t virt,
			 char *text, size_t text_bytes, struct identmap_error *error);

#ifdef __cplusplus
}
#endif

#endif /* IDENTMAP_H */
