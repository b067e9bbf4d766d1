/* The same products without the core: what it is compared with. */

#include "backbeat.h"

int8_t bb_requantise_software(int32_t acc, const struct bb_column *column,
                              const struct bb_requantise *q, uint32_t index)
{
    /* (acc + bias) * multiplier has 65 bits: upper * 2^16 + lower, 0 <= lower < 2^16. */
    int64_t x = (int64_t)acc + column->bias;
    uint32_t shift = column->shift;
    int64_t lower = (x & 0xffff) * column->multiplier, upper = (x >> 16) * column->multiplier;
    upper += lower >> 16;
    lower &= 0xffff;
    /* The fraction, as much of it as is above the product's last bit. */
    uint64_t fraction = q->stochastic ? bb_random_bits(q->seed, index) : 0x80000000u;
    fraction = shift >= 32 ? fraction << (shift - 32) : fraction >> (32 - shift);
    lower += fraction & 0xffff;
    upper += (int64_t)(fraction >> 16) + (lower >> 16);
    lower &= 0xffff;
    if (shift >= 16) {
        upper >>= shift - 16;
    } else {
        const int64_t most = (int64_t)1 << 40;      /* far beyond any clip */
        upper = upper < -most ? -most : upper > most ? most : upper;
        upper = upper * ((int64_t)1 << (16 - shift)) + (lower >> shift);
    }
    const int64_t most = 1 << 20;
    int32_t value = (upper < -most ? -most : upper > most ? most : upper) + q->zero_point;
    return value < q->low ? q->low : value > q->high ? q->high : value;
}

static inline int32_t dot(const int8_t *a, const int8_t *b, uint32_t a_step, uint32_t b_step, uint32_t k)
{
    int32_t sum = 0;
    while (k--) {
        sum += *a * *b;
        a += a_step;
        b += b_step;
    }
    return sum;
}

static void store(const struct bb_product *p, uint32_t i, uint32_t j, int32_t sum)
{
    uint8_t *row = (uint8_t *)p->c + i * p->c_pitch;
    if (p->requantise) {
        sum = bb_requantise_software(sum, &p->requantise->columns[j], p->requantise, i * p->n + j);
        ((int8_t *)row)[j] = sum;
    } else {
        ((int32_t *)row)[j] = sum;
    }
    if (p->sums) p->sums[j] += sum;
}

/* A run of rows of B as stored, of one group: those of the others are added by the caller. */
static const int8_t *b_row(const struct bb_product *p, uint32_t row)
{
    const int8_t *b = p->b;
    if (!p->b_group) return b + row * p->b_pitch;
    uint32_t group = row / p->b_group;
    return b + (row - group) * p->b_pitch + (int32_t)group * p->b_wrap;
}

int bb_gemm_software(const struct bb_product *p)
{
    const uint32_t a_row = p->a_across ? 1 : p->a_pitch, a_step = p->a_across ? p->a_pitch : 1;
    const uint32_t b_step = p->b_across ? p->b_pitch : 1;
    if (p->sums)
        for (uint32_t j = 0; j < p->n; j++) p->sums[j] = 0;
    if (p->b_group) {       /* rarely wanted: no need to be fast */
        for (uint32_t i = 0; i < p->m; i++)
            for (uint32_t j = 0; j < p->n; j++) {
                const int8_t *a = (const int8_t *)p->a + i * a_row;
                int32_t sum = 0;
                for (uint32_t k = 0; k < p->k; k++)
                    sum += a[k * a_step] * (p->b_across ? b_row(p, k)[j] : b_row(p, j)[k]);
                store(p, i, j, sum);
            }
        return 0;
    }
    const uint32_t b_row_bytes = p->b_across ? 1 : p->b_pitch;
    for (uint32_t i = 0; i < p->m; i += 2)
        for (uint32_t j = 0; j < p->n; j += 2) {
            const int8_t *a0 = (const int8_t *)p->a + i * a_row, *a1 = a0 + a_row;
            const int8_t *b0 = (const int8_t *)p->b + j * b_row_bytes, *b1 = b0 + b_row_bytes;
            if (i + 1 == p->m || j + 1 == p->n) {
                store(p, i, j, dot(a0, b0, a_step, b_step, p->k));
                if (i + 1 < p->m) store(p, i + 1, j, dot(a1, b0, a_step, b_step, p->k));
                if (j + 1 < p->n) store(p, i, j + 1, dot(a0, b1, a_step, b_step, p->k));
                continue;
            }
            int32_t c00 = 0, c01 = 0, c10 = 0, c11 = 0;
            if (a_step == 1 && b_step == 1) {
#pragma GCC unroll 4
                for (const int8_t *end = a0 + p->k; a0 != end; a0++, a1++, b0++, b1++) {
                    int32_t x0 = *a0, x1 = *a1, y0 = *b0, y1 = *b1;
                    c00 += x0 * y0;
                    c01 += x0 * y1;
                    c10 += x1 * y0;
                    c11 += x1 * y1;
                }
            } else {
                for (uint32_t k = 0; k < p->k; k++) {
                    int32_t x0 = *a0, x1 = *a1, y0 = *b0, y1 = *b1;
                    c00 += x0 * y0;
                    c01 += x0 * y1;
                    c10 += x1 * y0;
                    c11 += x1 * y1;
                    a0 += a_step;
                    a1 += a_step;
                    b0 += b_step;
                    b1 += b_step;
                }
            }
            store(p, i, j, c00);
            store(p, i, j + 1, c01);
            store(p, i + 1, j, c10);
            store(p, i + 1, j + 1, c11);
        }
    return 0;
}
