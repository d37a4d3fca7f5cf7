/*
 * What arch/x86/mm/ident_map.c expects around it, written anew for user space: entry types, masks,
 * helpers, and tables in an arena instead of in the direct map. Names are Linux's because the
 * fetched file uses them; nothing here is copied from Linux. Where behaviour matters, the header it
 * follows is named (Linux 5.10 to 7.3, arch/x86/include/asm/ unless said otherwise).
 *
 * One process serves one request at a time, so the settings of the request are plain globals.
 */
#ifndef SHIM_KERNEL_H
#define SHIM_KERNEL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(unsigned long) == 8, "ident_map.c computes addresses in unsigned long");

/* init.h: struct x86_mapping_info. free_pgt_page exists from 6.12 on; older sources ignore it. */
struct x86_mapping_info {
	void *(*alloc_pgt_page)(void *);
	void (*free_pgt_page)(void *, void *);
	void *context;
	unsigned long page_flag;
	unsigned long offset;
	bool direct_gbpages;
	unsigned long kernpg_flag;
};

/* pgtable_types.h, and SDM vol. 3A, 4.5 "4-level paging and 5-level paging". */
#define _PAGE_PRESENT (1UL << 0)
#define _PAGE_RW (1UL << 1)
#define _PAGE_ACCESSED (1UL << 5)
#define _PAGE_DIRTY (1UL << 6)
#define _PAGE_PSE (1UL << 7)
#define _PAGE_PROTNONE (1UL << 8) /* the global bit, of an entry that is not present */
#define _PAGE_NOPTISHADOW (1UL << 58) /* software bit 5; set by 6.12 and later */

/* An entry of any level. Distinct types, as in Linux, so that mixing levels does not compile. */
typedef struct { unsigned long v; } pte_t;
typedef struct { unsigned long v; } pmd_t;
typedef struct { unsigned long v; } pud_t;
typedef struct { unsigned long v; } p4d_t;
typedef struct { unsigned long v; } pgd_t;
#define __pmd(x) ((pmd_t){ (x) })
#define __pud(x) ((pud_t){ (x) })
#define __p4d(x) ((p4d_t){ (x) })
#define __pgd(x) ((pgd_t){ (x) })

/* Settings of the request being served. */
extern bool shim_five_levels;
extern unsigned long shim_encryption_mask;
extern unsigned long __default_kernel_pte_mask;

static inline bool pgtable_l5_enabled(void) { return shim_five_levels; }

/* Default of ident_map.c when no table flags are given; in Linux it has the encryption bit too. */
#define _KERNPG_TABLE \
	(_PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY | shim_encryption_mask)

/*
 * pgtable_64_types.h with CONFIG_X86_5LEVEL=y: where the PGD lies and how many entries a P4D has is
 * decided at run time. On four levels the P4D is folded: one entry, at the PGD's place.
 */
#define PMD_SHIFT 21
#define PUD_SHIFT 30
#define P4D_SHIFT 39
#define PGDIR_SHIFT (shim_five_levels ? 48 : 39)
#define PMD_SIZE (1UL << PMD_SHIFT)
#define PUD_SIZE (1UL << PUD_SHIFT)
#define P4D_SIZE (1UL << P4D_SHIFT)
#define PGDIR_SIZE (1UL << PGDIR_SHIFT)
#define PMD_MASK (~(PMD_SIZE - 1))
#define PUD_MASK (~(PUD_SIZE - 1))
#define P4D_MASK (~(P4D_SIZE - 1))
#define PGDIR_MASK (~(PGDIR_SIZE - 1))
#define PTRS_PER_PMD 512
#define PTRS_PER_PUD 512
#define PTRS_PER_P4D (shim_five_levels ? 512 : 1)
#define PTRS_PER_PGD 512

static inline unsigned long pmd_index(unsigned long a) { return (a >> PMD_SHIFT) & 511; }
static inline unsigned long pud_index(unsigned long a) { return (a >> PUD_SHIFT) & 511; }
static inline unsigned long p4d_index(unsigned long a)
{
	return (a >> P4D_SHIFT) & (unsigned long)(PTRS_PER_P4D - 1);
}
static inline unsigned long pgd_index(unsigned long a) { return (a >> PGDIR_SHIFT) & 511; }

/*
 * linux/pgtable.h: the next boundary of a level or the end, whichever comes first; both may be 0,
 * which then stands for 2^64. (ident_map.c uses these from 6.15 on.)
 */
static inline unsigned long shim_addr_end(unsigned long a, unsigned long end, unsigned long size)
{
	unsigned long boundary = (a & ~(size - 1)) + size;

	return boundary - 1 < end - 1 ? boundary : end;
}
#define pud_addr_end(a, end) shim_addr_end(a, end, PUD_SIZE)
#define p4d_addr_end(a, end) shim_addr_end(a, end, P4D_SIZE)
#define pgd_addr_end(a, end) shim_addr_end(a, end, PGDIR_SIZE)

/*
 * page.h __pa() and __va(): tables lie in one arena of the process, and in "physical" memory from
 * the request's table base on. An address outside the arena ends the process: it would be a bug of
 * the shim, never an answer.
 */
unsigned long shim_table_pa(const void *table);
void *shim_table_va(unsigned long pa);
#define __pa(table) shim_table_pa(table)
#define __va(pa) shim_table_va(pa)

/* pgtable_types.h PTE_PFN_MASK: bits 12 to 51 without the encryption bit (physical_mask). */
#define SHIM_ADDRESS_BITS 0x000ffffffffff000UL
#define PTE_PFN_MASK (SHIM_ADDRESS_BITS & ~shim_encryption_mask)

/* pgtable.h: presence. A PMD counts as present also while PSE or PROTNONE stands in it. */
static inline int pmd_present(pmd_t e)
{
	return (e.v & (_PAGE_PRESENT | _PAGE_PROTNONE | _PAGE_PSE)) != 0;
}
static inline int pud_present(pud_t e) { return (e.v & _PAGE_PRESENT) != 0; }
static inline int p4d_present(p4d_t e) { return (e.v & _PAGE_PRESENT) != 0; }
/* On four levels a PGD entry always counts as present: what matters is the P4D folded into it. */
static inline int pgd_present(pgd_t e)
{
	return !pgtable_l5_enabled() || (e.v & _PAGE_PRESENT) != 0;
}

/* pgtable.h: pmd_leaf, pud_leaf; before 6.9 called pmd_large, pud_large. */
static inline bool pmd_leaf(pmd_t e) { return (e.v & _PAGE_PSE) != 0; }
static inline bool pud_leaf(pud_t e)
{
	return (e.v & (_PAGE_PSE | _PAGE_PRESENT)) == (_PAGE_PSE | _PAGE_PRESENT);
}
#define pmd_large(e) pmd_leaf(e)
#define pud_large(e) pud_leaf(e)

/* From an entry to an entry of the table it points to. */
static inline p4d_t *p4d_offset(pgd_t *e, unsigned long a)
{
	return pgtable_l5_enabled() ? (p4d_t *)__va(e->v & PTE_PFN_MASK) + p4d_index(a) : (p4d_t *)e;
}
static inline pud_t *pud_offset(p4d_t *e, unsigned long a)
{
	return (pud_t *)__va(e->v & PTE_PFN_MASK) + pud_index(a);
}
static inline pmd_t *pmd_offset(pud_t *e, unsigned long a)
{
	return (pmd_t *)__va(e->v & PTE_PFN_MASK) + pmd_index(a);
}
static inline pte_t *pte_offset_kernel(pmd_t *e, unsigned long a)
{
	return (pte_t *)__va(e->v & PTE_PFN_MASK) + ((a >> 12) & 511);
}

static inline void set_pmd(pmd_t *slot, pmd_t e) { *slot = e; }
static inline void set_pud(pud_t *slot, pud_t e) { *slot = e; }
static inline void set_p4d(p4d_t *slot, p4d_t e) { *slot = e; }
static inline void set_pgd(pgd_t *slot, pgd_t e) { *slot = e; }

#endif
