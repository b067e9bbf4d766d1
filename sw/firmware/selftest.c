/* Compares the core with the software's results on products of every kind, and says how long each took.
 * Ends with PASS or FAIL. */

#include "backbeat.h"
#include "platform.h"

#ifndef BB_ARENA
#define BB_ARENA 0x40010000u    /* main memory that nobody else uses */
#endif

static uint8_t *arena;
static uint32_t random_state = 1, failures;

static uint32_t random(void)
{
    random_state = bb_random_bits(random_state, 1);
    return random_state;
}

static void *take(uint32_t bytes)
{
    void *p = arena;
    arena += (bytes + 63) / 64 * 64;
    return p;
}

static uint32_t padded(uint32_t bytes) { return (bytes + 7) / 8 * 8; }

static int8_t *matrix(uint32_t rows, uint32_t columns, int least)
{
    int8_t *m = take(rows * padded(columns));
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < padded(columns); j++) {
            int value = (int8_t)random();
            m[i * padded(columns) + j] = value < least ? least : value;
        }
    return m;
}

static int same(const void *x, const void *y, uint32_t rows, uint32_t bytes, uint32_t pitch)
{
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < bytes; j++)
            if (((const uint8_t *)x)[i * pitch + j] != ((const uint8_t *)y)[i * pitch + j]) return 0;
    return 1;
}

enum { NEAREST = 1, STOCHASTIC = 2, SUMS = 4, DOOR = 8 };

static void check(const char *name, uint32_t m, uint32_t n, uint32_t k, int a_across, int b_across,
                  int how)
{
    arena = (uint8_t *)BB_ARENA;
    random_state = m + n + k + how;
    struct bb_requantise q = {.columns = 0, .zero_point = 3, .low = -100, .high = 127,
                              .stochastic = !!(how & STOCHASTIC), .seed = 0xBEA7};
    const int int8 = how & (NEAREST | STOCHASTIC);
    const uint32_t row = n * (int8 ? 1 : 4);
    struct bb_product p = {
        .m = m, .n = n, .k = k, .a_across = a_across, .b_across = b_across,
        .a_pitch = padded(a_across ? m : k), .b_pitch = padded(b_across ? n : k), .c_pitch = padded(row),
        .requantise = int8 ? &q : 0,
    };
    p.a = a_across ? matrix(k, m, -127) : matrix(m, k, -127);
    p.b = b_across ? matrix(k, n, -128) : matrix(n, k, -128);
    if (int8) {
        struct bb_column *columns = take(n * sizeof *columns);
        for (uint32_t j = 0; j < n; j++)
            columns[j] = (struct bb_column){(int32_t)random() >> 18, (random() >> 12) - (1 << 18),
                                            28 + j % 5, 0};
        q.columns = columns;
    }
    uint8_t *hardware = take(m * p.c_pitch), *software = take(m * p.c_pitch);
    int32_t *hardware_sums = take(padded(4 * n)), *software_sums = take(padded(4 * n));
    for (uint32_t i = 0; i < m * p.c_pitch; i++) hardware[i] = 0x55;

    p.c = hardware;
    if (how & SUMS) p.sums = hardware_sums;
    uint32_t begin = bb_cycles();
    int error = how & DOOR ? bb_gemm_door(&p) : bb_gemm(&p);
    uint32_t cycles = bb_cycles() - begin;
    p.c = software;
    if (how & SUMS) p.sums = software_sums;
    begin = bb_cycles();
    bb_gemm_software(&p);
    uint32_t software_cycles = bb_cycles() - begin;

    int right = !error && same(hardware, software, m, row, p.c_pitch)
        && !(how & SUMS && !same(hardware_sums, software_sums, 1, 4 * n, 0));
    bb_print("%s %s %3u x %3u x %3u: %6u cycles, software %8u", right ? "ok  " : "FAIL", name, m, n, k,
             cycles, software_cycles);
    if (error) bb_print(", error %d %s, value %x", error, bb_error_name(error), bb_error_value());
    bb_putchar('\n');
    failures += !right;
}

/* What must be refused, is refused, named, and leaves a core that works. */
static void check_error(void)
{
    arena = (uint8_t *)BB_ARENA;
    int8_t *a = matrix(8, 8, -127), *b = matrix(8, 8, -128);
    int32_t *c = take(8 * 32);
    struct bb_product p = {.a = a, .b = b, .c = c, .m = 8, .n = 8, .k = 8, .a_pitch = 8, .b_pitch = 8,
                           .c_pitch = 24};
    int error = bb_core.memory ? bb_gemm(&p) : BB_ERROR_PITCH;
    int wrong = error != BB_ERROR_PITCH || (bb_core.memory && bb_error_value() != 24);
    a[9] = -128;
    p.c_pitch = 32;
    error = bb_core.memory ? bb_gemm(&p) : bb_gemm_door(&p);
    wrong |= error != BB_ERROR_OPERAND;
    a[9] = 1;
    error = bb_core.memory ? bb_gemm(&p) : bb_gemm_door(&p);
    wrong |= error != 0;
    bb_print("%s errors are named and recovered from\n", wrong ? "FAIL" : "ok  ");
    failures += wrong;
}

int main(void)
{
    int error = bb_open();
    if (error) {
        bb_print("FAIL: no core (ID %08x)\n", bb_error_value());
        return 1;
    }
    bb_print("core %ux%u, depth %u, tiles %u%s\n", bb_core.rows, bb_core.columns, bb_core.depth,
             bb_core.tiles, bb_core.memory ? ", memory port" : "");
    if (bb_core.memory) {
        check("NT int32     ", 33, 21, 70, 0, 0, 0);
        check("NN int32     ", 17, 40, 24, 0, 1, 0);
        check("TN int32     ", 24, 33, 19, 1, 1, 0);
        check("TT int32     ", 40, 9, 31, 1, 0, 0);
        check("NT nearest   ", 30, 37, 48, 0, 0, NEAREST);
        check("TN stochastic", 32, 72, 32, 1, 1, STOCHASTIC);
        check("NN sums      ", 19, 26, 40, 0, 1, STOCHASTIC | SUMS);
        check("NT one value ", 1, 1, 1, 0, 0, 0);
    }
    check("NT door      ", 33, 21, 70, 0, 0, DOOR);
    check("NN door      ", 17, 40, 24, 0, 1, DOOR | NEAREST);
    check("TN door      ", 24, 33, 19, 1, 1, DOOR | STOCHASTIC);
    check("TT door      ", 40, 9, 31, 1, 0, DOOR);
    check_error();
    if (failures) bb_print("FAIL: %u of the checks above\n", failures);
    else bb_print("PASS\n");
    return failures != 0;
}
