/* Backbeat for C programs on the CPU beside it.
 *
 * A product is described by where its matrices lie in memory; the core does the rest:
 *
 *     struct bb_product p = {.a = x, .b = w, .c = y, .m = 32, .n = 10, .k = 64,
 *                            .a_pitch = 64, .b_pitch = 64, .c_pitch = 40};
 *     int error = bb_gemm(&p);            // C = A B^T, INT32
 *
 * Functions that return int return 0 or an error: a BB_ERROR_... of backbeat_isa.h, which the core
 * reports (bb_error_value() is the value that caused it), or one of enum bb_library_error. After an
 * error the core has been reset and can be used again.
 *
 * The library never assumes a size: bb_open() reads them from the core. It needs no heap, no floating
 * point and no standard library.
 */
#ifndef BACKBEAT_H
#define BACKBEAT_H

#include <stddef.h>
#include <stdint.h>

#include "backbeat_isa.h"

enum bb_library_error {
    BB_ERROR_NOT_FOUND = 100,   /* no core, or one of another version */
    BB_ERROR_NO_MEMORY_PORT,    /* this core has none: bb_gemm_door() */
    BB_ERROR_HUNG,              /* no progress for half a million cycles */
    BB_ERROR_NO_PLAN,           /* the buffers are too small for any panel of this product */
    BB_ERROR_NOT_DONE,          /* the core is idle, but the descriptor has no record */
};

/* The CFU answers custom instructions: funct3 is the operation, funct7 its register or port. They
 * are constants of the instruction. */
#ifdef __riscv
#define bb_cfu(funct3, funct7, input_0, input_1) ({                                          \
    uint32_t bb_out;                                                                         \
    __asm__ volatile(".insn r 0x0B, %3, %4, %0, %1, %2"                                      \
                     : "=r"(bb_out)                                                          \
                     : "r"((uint32_t)(input_0)), "r"((uint32_t)(input_1)),                   \
                       "i"(funct3), "i"(funct7)                                              \
                     : "memory");                                                            \
    bb_out; })
#else   /* compiled for another machine, in tests: somebody else is the core */
uint32_t bb_cfu(uint32_t funct3, uint32_t funct7, uint32_t input_0, uint32_t input_1);
#endif

#define bb_get(name)        bb_cfu(BB_OP_GET, BB_GET_##name, 0, 0)
#define bb_set(name, value) bb_cfu(BB_OP_SET, BB_SET_##name, value, 0)

/* Clock cycles since reset, modulo 2^32. */
static inline uint32_t bb_cycles(void) { return bb_get(CYCLES); }

/* What the core has: read once by bb_open(). */
struct bb_core {
    uint16_t rows, columns;     /* of the array */
    uint16_t depth, tiles;      /* of each half of a scratchpad lane, of the accumulators */
    uint16_t banks, memory;     /* parts of a scratchpad; 1: there is a memory port */
};
extern struct bb_core bb_core;

/* Enables the CFU instructions, resets the core and reads what it has. */
int bb_open(void);

/* The first error's value, and the address of the descriptor that failed (0: none). */
uint32_t bb_error_value(void);
uint32_t bb_failed(void);
const char *bb_error_name(int error);

/* The error that the core reports, if any; it has been reset then. */
int bb_core_error(void);

/* Drops the data cache, so that what the core has written is seen. The cache is write-through: what
 * the CPU has written the core sees anyway. */
static inline void bb_invalidate(void)
{
#ifdef __riscv
    __asm__ volatile(".word 0x500F" ::: "memory");
#endif
}

/* Bias, multiplier and shift of one column of C. */
struct bb_column { int32_t bias, multiplier, shift, zero; };

/* INT32 to INT8: clip(round((acc + bias) * multiplier * 2^-shift) + zero_point, low, high). */
struct bb_requantise {
    const struct bb_column *columns;    /* N of them, at a multiple of 8 */
    int8_t zero_point, low, high;       /* ReLU is low = zero_point */
    uint8_t stochastic;                 /* 0: to nearest, ties up */
    uint32_t seed;
};

/* C[M, N] = op(A) op(B), row-major. Addresses and pitches (bytes from row to row as stored) are
 * multiples of 8; -128 must not occur in A, nor in the bytes that fill its rows up to whole words of 8.
 * All that the core reads or writes lies in the memory behind its port: operands, results, columns, and
 * the descriptors of a chain. */
struct bb_product {
    const void *a, *b;          /* int8: A is (M, K), or (K, M) if a_across;
                                 *       B is (N, K), or (K, N) if b_across */
    void *c;                    /* int32, or int8 with requantise */
    uint32_t m, n, k;
    uint32_t a_pitch, b_pitch, c_pitch;
    uint8_t a_across, b_across;
    uint8_t fence;              /* begin when the products before it in the chain are complete */
    const struct bb_requantise *requantise;
    int32_t *sums;              /* or 0: also the sum of each column of C */
    uint32_t b_group;           /* or 0: rows of B as stored after which one step is ... */
    int32_t b_wrap;             /* ... this many bytes instead of b_pitch */
};

/* The core's own form of a product. Planned once, it can be run as often as wanted: only bb_reseed()
 * lies between two rounds of stochastic rounding. */
struct bb_descriptor { uint32_t word[BB_DESCRIPTOR_WORDS]; } __attribute__((aligned(8)));

int bb_describe(struct bb_descriptor *, const struct bb_product *);
static inline void bb_reseed(struct bb_descriptor *d, uint32_t seed)
{
    d->word[BB_DESCRIPTOR_SEED_WORD] = seed;
}

/* Carries out `count` descriptors, which follow each other in memory, as one chain: starts, and waits
 * until all results are in memory. bb_run() does both. */
void bb_start(struct bb_descriptor *, uint32_t count);
int bb_wait(const struct bb_descriptor *, uint32_t count);
int bb_run(struct bb_descriptor *, uint32_t count);

/* One product: described, carried out, waited for. */
int bb_gemm(const struct bb_product *);

/* The same with every operand and result through the CFU instructions, for a core without a memory
 * port. No sums, no b_group. */
int bb_gemm_door(const struct bb_product *);

/* The same in software: INT32 with two rows and two columns in registers, then the epilogue. */
int bb_gemm_software(const struct bb_product *);

/* What the epilogue makes of one sum; `index` is that of the element in C, row * N + column. */
int8_t bb_requantise_software(int32_t acc, const struct bb_column *, const struct bb_requantise *,
                              uint32_t index);

#endif
