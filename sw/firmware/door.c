/* A product whose operands and results pass through the CFU instructions. */

#include "backbeat.h"

enum { WORD = 8 };

static uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
static uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The instruction has its port as a constant. */
static inline void push(int port, uint32_t low, uint32_t high)
{
    if (port == BB_PORT_A) bb_cfu(BB_OP_PUSH, BB_PORT_A, low, high);
    else bb_cfu(BB_OP_PUSH, BB_PORT_B, low, high);
}

/* `bytes` of them, then zeros up to a whole word; they may begin anywhere. */
static inline void push_row(int port, const uint8_t *p, uint32_t bytes)
{
    if (((uintptr_t)p & 3) == 0)
        for (; bytes >= WORD; bytes -= WORD, p += WORD)
            push(port, ((const uint32_t *)p)[0], ((const uint32_t *)p)[1]);
    while (bytes) {
        uint32_t half[2] = {0, 0}, some = min(bytes, WORD);
        for (uint32_t i = 0; i < some; i++) half[i / 4] |= (uint32_t)p[i] << 8 * (i % 4);
        push(port, half[0], half[1]);
        bytes -= some;
        p += some;
    }
}

struct operand {
    const uint8_t *at;
    uint32_t pitch, tile;       /* rows (columns) of the array */
    int across;
};

/* A panel: `lanes` rows (columns) from `lane` on, `depth` steps of K from `k` on. */
static inline void load(int port, const struct operand *o, uint32_t half, uint32_t lane, uint32_t lanes,
                        uint32_t k, uint32_t depth)
{
    uint32_t tiles = ceil_div(lanes, o->tile);
    uint32_t size = BB_LOAD_0_DEPTH(depth) | BB_LOAD_0_TILES(tiles)
        | BB_LOAD_0_LAST(lanes - (tiles - 1) * o->tile);
    uint32_t how = BB_LOAD_1_HALF(half) | BB_LOAD_1_ACROSS(o->across);
    if (port == BB_PORT_A) bb_cfu(BB_OP_LOAD, BB_PORT_A, size, how);
    else bb_cfu(BB_OP_LOAD, BB_PORT_B, size, how);
    if (!o->across) {
        const uint8_t *row = o->at + lane * o->pitch + k;
        for (uint32_t i = 0; i < lanes; i++, row += o->pitch) push_row(port, row, depth);
    } else if (o->tile % WORD == 0) {       /* tiles follow each other without a gap */
        const uint8_t *row = o->at + k * o->pitch + lane;
        for (uint32_t i = 0; i < depth; i++, row += o->pitch) push_row(port, row, lanes);
    } else {
        const uint8_t *row = o->at + k * o->pitch + lane;
        for (uint32_t i = 0; i < depth; i++, row += o->pitch)
            for (uint32_t j = 0; j < lanes; j += o->tile) push_row(port, row + j, min(o->tile, lanes - j));
    }
}

static void table(const struct bb_column *column, uint32_t count)
{
    bb_set(TABLE, 0);
    for (int32_t shift = -1; count--; column++) {
        if (column->shift != shift) bb_set(SHIFT, shift = column->shift);
        bb_cfu(BB_OP_PUSH, BB_PORT_TABLE, column->bias, column->multiplier);
    }
}

static void read_out(const struct bb_product *p, uint32_t half, uint32_t i, uint32_t rows, uint32_t j,
                     uint32_t columns)
{
    const struct bb_requantise *q = p->requantise;
    if (q) table(q->columns + j, columns);
    bb_cfu(BB_OP_READOUT, 0, BB_READOUT_0_HALF(half) | BB_READOUT_0_REQUANTISE(!!q)
           | BB_READOUT_0_STOCHASTIC(q && q->stochastic), i * p->n + j);
    uint8_t *row = (uint8_t *)p->c + i * p->c_pitch + j * (q ? 1 : 4);
    for (; rows--; row += p->c_pitch) {
        if (!q) {
            for (uint32_t *at = (uint32_t *)row, *end = at + columns; at != end; at++)
                *at = bb_cfu(BB_OP_READ, 0, 0, 0);
            continue;
        }
        uint32_t left = columns;
        uint8_t *at = row;
        if (((uintptr_t)at & 3) == 0)
            for (; left >= 4; left -= 4, at += 4) *(uint32_t *)at = bb_cfu(BB_OP_READ, 0, 0, 0);
        while (left) {
            uint32_t word = bb_cfu(BB_OP_READ, 0, 0, 0);
            for (uint32_t n = min(left, 4); n--; left--, word >>= 8) *at++ = word;
        }
    }
}

int bb_gemm_door(const struct bb_product *p)
{
    const struct operand a = {p->a, p->a_pitch, bb_core.rows, p->a_across};
    const struct operand b = {p->b, p->b_pitch, bb_core.columns, p->b_across};
    uint32_t square = 1;        /* tiles of a macro-tile in either direction */
    while (4 * square * square <= bb_core.tiles) square *= 2;
    const uint32_t a_panel = min(p->m, square * a.tile), b_panel = min(p->n, square * b.tile);
    const uint32_t most = ceil_div(a_panel, a.tile) > ceil_div(b_panel, b.tile)
        ? ceil_div(a_panel, a.tile) : ceil_div(b_panel, b.tile);
    const uint32_t chunk = min(p->k, min(BB_MAX_RUN, bb_core.depth / most / WORD * WORD));
    if (!p->m || !p->n || !p->k) return BB_ERROR_DIMENSION;
    if (!chunk) return BB_ERROR_NO_PLAN;

    bb_set(MAX_ABS, 0);
    if (p->requantise) {
        const struct bb_requantise *q = p->requantise;
        bb_set(SEED, q->seed);
        bb_set(PITCH, p->n);
        bb_set(CLIP, BB_CLIP_ZERO_POINT(q->zero_point) | BB_CLIP_LOW(q->low) | BB_CLIP_HIGH(q->high));
    }
    /* A macro-tile is read while the next one computes. */
    uint32_t a_half = 0, b_half = 0, c_half = 0, done_i = 0, done_j = 0, pending = 0;
    for (uint32_t i = 0; i < p->m; i += a_panel) {
        const uint32_t rows = min(a_panel, p->m - i);
        for (uint32_t j = 0; j < p->n; j += b_panel) {
            const uint32_t columns = min(b_panel, p->n - j);
            for (uint32_t k = 0; k < p->k; k += chunk) {
                const uint32_t depth = min(chunk, p->k - k);
                if (chunk < p->k || !j) load(BB_PORT_A, &a, a_half ^= 1, i, rows, k, depth);
                load(BB_PORT_B, &b, b_half ^= 1, j, columns, k, depth);
                bb_cfu(BB_OP_RUN, 0, BB_RUN_0_A_HALF(a_half) | BB_RUN_0_B_HALF(b_half)
                       | BB_RUN_0_C_HALF(c_half) | BB_RUN_0_ACCUMULATE(k != 0), 0);
            }
            if (pending)
                read_out(p, c_half ^ 1, done_i, min(a_panel, p->m - done_i), done_j,
                         min(b_panel, p->n - done_j));
            done_i = i;
            done_j = j;
            pending = 1;
            c_half ^= 1;
        }
    }
    read_out(p, c_half ^ 1, done_i, min(a_panel, p->m - done_i), done_j, min(b_panel, p->n - done_j));
    return bb_core_error();
}
