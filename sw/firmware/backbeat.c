/* Products in memory, carried out by descriptors. */

#include "backbeat.h"

#define FIELD(d, name, value) ((d)->word[BB_DESCRIPTOR_##name##_WORD] |= BB_DESCRIPTOR_##name(value))

enum { WORD = 8, PATIENCE = 8 };

struct bb_core bb_core;
static uint32_t error_value, failed;

static uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
static uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }

int bb_open(void)
{
#ifdef __riscv
    /* Without this bit a CFU instruction is an illegal one, and it is looked at when the instruction is
     * decoded: those right behind are decoded already. */
    __asm__ volatile("csrs 0xBC0, %0; nop; nop; nop; nop" :: "r"(0x80000000u));
#endif
    bb_cfu(BB_OP_RESET, 0, 0, 0);
    uint32_t id = bb_get(ID), size = bb_get(SIZE);
    if (BB_ID_IDENTITY_OF(id) != BB_IDENTITY || BB_ID_VERSION_OF(id) != BB_VERSION) {
        error_value = id;
        return BB_ERROR_NOT_FOUND;
    }
    bb_core = (struct bb_core){BB_ID_ROWS_OF(id), BB_ID_COLUMNS_OF(id), BB_SIZE_DEPTH_OF(size),
                               BB_SIZE_TILES_OF(size), BB_SIZE_BANKS_OF(size), BB_SIZE_MEMORY_OF(size)};
    return 0;
}

uint32_t bb_error_value(void) { return error_value; }
uint32_t bb_failed(void) { return failed; }

int bb_core_error(void)
{
    int error = bb_get(ERROR);
    if (error) {
        error_value = bb_get(ERROR_VALUE);
        failed = bb_get(FAILED);
        bb_cfu(BB_OP_RESET, 0, 0, 0);
    }
    return error;
}

static int refuse(int error, uint32_t value)
{
    error_value = value;
    failed = 0;
    return error;
}

/* Rows (columns) of panels of at most `tiles` tiles, as even as possible; 0 if there is none. */
static uint32_t panel(uint32_t lanes, uint32_t lane_count, uint32_t tiles, int whole_words)
{
    if (lanes <= tiles * lane_count) return lanes;
    uint32_t even = ceil_div(ceil_div(lanes, ceil_div(lanes, tiles * lane_count)), lane_count) * lane_count;
    return whole_words ? even / WORD * WORD : even;
}

/* Panels of C and chunk of K. Macro-tiles as square as the accumulators allow load the fewest bytes;
 * more than one of them lets one be stored while the next is computed. */
static int plan(struct bb_descriptor *d, const struct bb_product *p)
{
    const uint32_t rows = bb_core.rows, columns = bb_core.columns, banks = bb_core.banks;
    uint32_t square = 1;
    while (4 * square * square <= bb_core.tiles) square *= 2;
    uint32_t a_tiles = ceil_div(p->m, rows), b_tiles = ceil_div(p->n, columns);
    if (a_tiles > square && b_tiles > square)
        a_tiles = square;
    a_tiles = min(a_tiles, bb_core.tiles / min(b_tiles, square));
    b_tiles = min(b_tiles, bb_core.tiles / a_tiles);
    if (a_tiles == ceil_div(p->m, rows) && b_tiles == ceil_div(p->n, columns) && a_tiles * b_tiles > 3) {
        if (a_tiles > b_tiles) a_tiles = ceil_div(a_tiles, 2);
        else b_tiles = ceil_div(b_tiles, 2);
    }
    uint32_t a_panel = panel(p->m, rows, a_tiles, p->a_across);
    uint32_t b_panel = panel(p->n, columns, b_tiles, 1);
    /* Panels of whole words may be made of no whole tiles: one tile fewer never helps, more may. */
    while (!b_panel && b_tiles < bb_core.tiles) b_panel = panel(p->n, columns, ++b_tiles, 1);
    while (!a_panel && a_tiles < bb_core.tiles) a_panel = panel(p->m, rows, ++a_tiles, p->a_across);
    if (!a_panel || !b_panel) return refuse(BB_ERROR_NO_PLAN, p->n);
    a_tiles = ceil_div(a_panel, rows);
    b_tiles = ceil_div(b_panel, columns);
    uint32_t bank = 2 * bb_core.depth / banks;
    uint32_t chunk = min(p->k, bank / (a_tiles > b_tiles ? a_tiles : b_tiles) / WORD * WORD);
    if (!chunk || a_tiles * b_tiles > bb_core.tiles) return refuse(BB_ERROR_NO_PLAN, p->k);

    /* How often each operand is read, for either order of the loops. */
    uint32_t row_panels = ceil_div(p->m, a_panel), column_panels = ceil_div(p->n, b_panel);
    uint32_t runs = ceil_div(p->k, chunk);
    uint32_t inner_b = runs * column_panels <= banks ? 1 : row_panels;
    uint32_t inner_a = runs * row_panels <= banks ? 1 : column_panels;
    uint32_t outer_a = runs <= banks ? 1 : column_panels, outer_b = runs <= banks ? 1 : row_panels;
    int columns_outer = p->sums || inner_a * p->m + outer_b * p->n < outer_a * p->m + inner_b * p->n;

    FIELD(d, A_PANEL, a_panel);
    FIELD(d, B_PANEL, b_panel);
    FIELD(d, CHUNK, chunk);
    FIELD(d, LAST_CHUNK, chunk);
    FIELD(d, COLUMNS_OUTER, columns_outer);
    return 0;
}

int bb_describe(struct bb_descriptor *d, const struct bb_product *p)
{
    if (!bb_core.memory) return refuse(BB_ERROR_NO_MEMORY_PORT, 0);
    if (!p->m || !p->n || !p->k) return refuse(BB_ERROR_DIMENSION, 0);
    for (unsigned i = 0; i < BB_DESCRIPTOR_WORDS; i++) d->word[i] = 0;
    FIELD(d, OP, BB_DESCRIPTOR_GEMM);
    FIELD(d, A_ACROSS, p->a_across);
    FIELD(d, B_ACROSS, p->b_across);
    FIELD(d, FENCE, p->fence);
    FIELD(d, A, (uintptr_t)p->a);
    FIELD(d, B, (uintptr_t)p->b);
    FIELD(d, C, (uintptr_t)p->c);
    FIELD(d, A_PITCH, p->a_pitch);
    FIELD(d, B_PITCH, p->b_pitch);
    FIELD(d, C_PITCH, p->c_pitch);
    FIELD(d, M, p->m);
    FIELD(d, N, p->n);
    FIELD(d, K, p->k);
    FIELD(d, B_GROUP, p->b_group);
    FIELD(d, B_WRAP, p->b_wrap);
    if (p->sums) {
        FIELD(d, SUMS, 1);
        FIELD(d, SUMS_ADDRESS, (uintptr_t)p->sums);
    }
    if (p->requantise) {
        const struct bb_requantise *q = p->requantise;
        FIELD(d, REQUANTISE, 1);
        FIELD(d, STOCHASTIC, q->stochastic);
        FIELD(d, TABLE, (uintptr_t)q->columns);
        FIELD(d, SEED, q->seed);
        FIELD(d, ZERO_POINT, q->zero_point);
        FIELD(d, LOW, q->low);
        FIELD(d, HIGH, q->high);
    }
    return plan(d, p);
}

void bb_start(struct bb_descriptor *d, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        d[i].word[BB_DESCRIPTOR_LAST_WORD] &= ~BB_DESCRIPTOR_LAST(1);
        d[i].word[BB_DESCRIPTOR_NEXT_WORD] = (uintptr_t)&d[i + 1];
        d[i].word[BB_DESCRIPTOR_DONE_WORD] = 0;
    }
    FIELD(&d[count - 1], LAST, 1);
    bb_set(DOORBELL, (uintptr_t)d);
}

/* Until the core is idle. */
static int wait(void)
{
    /* FENCE waits for 65,536 cycles at most; a memory that is only slow makes progress. */
    uint32_t signs = 0;
    for (unsigned silent = 0; !bb_get(FENCE); silent++) {
        uint32_t now = bb_get(COMPLETED) + bb_get(READ_BEATS) + bb_get(WRITE_BEATS);
        if (now != signs) silent = 0;
        signs = now;
        if (silent == PATIENCE) {
            bb_cfu(BB_OP_RESET, 0, 0, 0);
            return refuse(BB_ERROR_HUNG, now);
        }
    }
    bb_invalidate();
    return bb_core_error();
}

int bb_wait(const struct bb_descriptor *d, uint32_t count)
{
    int error = wait();
    if (!error && d[count - 1].word[BB_DESCRIPTOR_DONE_WORD] != 1)
        return refuse(BB_ERROR_NOT_DONE, (uintptr_t)&d[count - 1]);
    return error;
}

int bb_run(struct bb_descriptor *d, uint32_t count)
{
    bb_start(d, count);
    return bb_wait(d, count);
}

int bb_gemm(const struct bb_product *p)
{
    struct bb_descriptor d;     /* on the stack, which the core may not see: so it is pushed */
    int error = bb_describe(&d, p);
    if (error) return error;
    FIELD(&d, LAST, 1);
    for (unsigned i = 0; i < BB_FETCHED_WORDS; i += 2)
        bb_cfu(BB_OP_PUSH, BB_PORT_DESCRIPTOR, d.word[i], d.word[i + 1]);
    bb_set(START, 0);
    return wait();
}

const char *bb_error_name(int error)
{
    static const char *const names[] = BB_ERROR_NAMES;
    static const char *const library[] = {"NOT_FOUND", "NO_MEMORY_PORT", "HUNG", "NO_PLAN", "NOT_DONE"};
    if (error >= 0 && (size_t)error < sizeof names / sizeof *names) return names[error];
    if (error >= BB_ERROR_NOT_FOUND && error <= BB_ERROR_NOT_DONE) return library[error - BB_ERROR_NOT_FOUND];
    return "?";
}
