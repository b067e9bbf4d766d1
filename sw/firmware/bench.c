/* How long one product takes: BB_M x BB_N x BB_K, INT32, by the core (BB_HOW 0), through the CFU
 * instructions (1), in software (2) and by the loop that anybody would write first (3). Prints the
 * cycles and a checksum of C, which must not depend on the way. */

#include "backbeat.h"
#include "platform.h"

static int naive(const struct bb_product *p)
{
    for (uint32_t i = 0; i < p->m; i++)
        for (uint32_t j = 0; j < p->n; j++) {
            const int8_t *a = (const int8_t *)p->a + i * p->a_pitch, *b = (const int8_t *)p->b + j * p->b_pitch;
            int32_t sum = 0;
            for (uint32_t k = 0; k < p->k; k++) sum += a[k] * b[k];
            ((int32_t *)((uint8_t *)p->c + i * p->c_pitch))[j] = sum;
        }
    return 0;
}

int main(void)
{
    int error = bb_open();
    const uint32_t pitch = (BB_K + 7) / 8 * 8, c_pitch = (4 * BB_N + 7) / 8 * 8;
    int8_t *a = (int8_t *)0x40010000u, *b = a + BB_M * pitch, *c = b + BB_N * pitch;
    struct bb_product p = {.a = a, .b = b, .c = c, .m = BB_M, .n = BB_N, .k = BB_K,
                           .a_pitch = pitch, .b_pitch = pitch, .c_pitch = c_pitch};
    for (int8_t *at = a; at != c; at += 4) {
        uint32_t word = bb_random_bits(7, at - a);
        for (int i = 0; i < 4; i++) {
            int8_t value = word >> 8 * i;
            at[i] = value == -128 ? 127 : value;
        }
    }
    static int (*const ways[])(const struct bb_product *) = {bb_gemm, bb_gemm_door, bb_gemm_software, naive};
    const uint32_t begin = bb_cycles();
    if (!error) error = ways[BB_HOW](&p);
    const uint32_t cycles = bb_cycles() - begin;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < BB_M; i++)
        for (uint32_t j = 0; j < BB_N; j++) sum = 31 * sum + ((const uint32_t *)(c + i * c_pitch))[j];
    bb_print("error %d cycles %u checksum %08x\n", error, cycles, sum);
    return error;
}
