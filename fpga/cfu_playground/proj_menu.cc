// Backbeat's menu: a self-test of all that the core does, and what a product takes.
//
// Sizes are read from the core, so this file is the same for every array.

#include "proj_menu.h"

#include <stdint.h>
#include <stdio.h>

#include "backbeat_isa.h"
#include "cfu.h"
#include "menu.h"
#include "perf.h"

namespace {

const int WORD = 8;
// What the buffers here hold of an operand.
const int MOST_LANES = 96, MOST_DEPTH = 512;
const int BIAS = 40;  // of column c: c % BIAS - BIAS / 2

struct Shape {
  int m, n, k;
};

struct Core {
  int rows, columns, depth, tiles;
} core;

// op(A) is m x k and op(B) k x n; stored with rows of whole words.
int8_t a[MOST_LANES * MOST_DEPTH], b[MOST_LANES * MOST_DEPTH];
uint32_t random_state;
unsigned long failures, checks;

int random_below(int n) {
  random_state = random_state * 1664525u + 1013904223u;
  return int((random_state >> 8) % uint32_t(n));
}

bool same(const char *what, uint32_t found, uint32_t expected) {
  checks++;
  if (found == expected) return true;
  // The first ones tell; thousands would take minutes at the speed of a UART.
  if (failures++ < 8)
    printf("%s: got %08lx, expected %08lx\n", what, (unsigned long)found, (unsigned long)expected);
  return false;
}

int ceil_div(int x, int y) { return (x + y - 1) / y; }
int minimum(int x, int y) { return x < y ? x : y; }
int at(int lane, int k) { return lane * MOST_DEPTH + k; }

// The funct7 of an instruction is a constant.
uint32_t load(int port, uint32_t size, uint32_t mode) {
  return port == BB_PORT_A ? cfu_op2(BB_PORT_A, size, mode) : cfu_op2(BB_PORT_B, size, mode);
}

uint32_t push(int port, uint32_t low, uint32_t high) {
  return port == BB_PORT_A ? cfu_op3(BB_PORT_A, low, high) : cfu_op3(BB_PORT_B, low, high);
}

uint32_t push_bytes(int port, const int8_t *bytes) {
  uint32_t word[2] = {0, 0};
  for (int n = 0; n < WORD; n++) word[n / 4] |= uint32_t(uint8_t(bytes[n])) << (8 * (n % 4));
  return push(port, word[0], word[1]);
}

// A panel of `lanes` rows (columns) as the core wants its words. The or of the answers.
uint32_t send(int port, const int8_t *matrix, int lanes, int depth, int half, bool across) {
  const int size = port == BB_PORT_A ? core.rows : core.columns;
  const int tiles = ceil_div(lanes, size), last = lanes - (tiles - 1) * size;
  uint32_t answer = load(port, BB_LOAD_0_DEPTH(depth) | BB_LOAD_0_TILES(tiles) | BB_LOAD_0_LAST(last),
                         BB_LOAD_1_HALF(half) | BB_LOAD_1_ACROSS(across));
  int8_t bytes[WORD];
  if (!across) {
    for (int lane = 0; lane < lanes; lane++)
      for (int k = 0; k < depth; k += WORD) {
        for (int n = 0; n < WORD; n++) bytes[n] = k + n < depth ? matrix[at(lane, k + n)] : 0;
        answer |= push_bytes(port, bytes);
      }
    return answer;
  }
  for (int k = 0; k < depth; k++)
    for (int tile = 0; tile < lanes; tile += size) {
      const int end = minimum(tile + size, lanes);
      for (int lane = tile; lane < end; lane += WORD) {
        for (int n = 0; n < WORD; n++) bytes[n] = lane + n < end ? matrix[at(lane + n, k)] : 0;
        answer |= push_bytes(port, bytes);
      }
    }
  return answer;
}

int32_t dot(int row, int column, int depth) {
  int32_t sum = 0;
  for (int k = 0; k < depth; k++) sum += a[at(row, k)] * b[at(column, k)];
  return sum;
}

void fill(const Shape &s, bool extremes) {
  for (int lane = 0; lane < s.m; lane++)
    for (int k = 0; k < s.k; k++)
      a[at(lane, k)] = int8_t(extremes ? (random_below(2) ? 127 : -127) : random_below(255) - 127);
  for (int lane = 0; lane < s.n; lane++)
    for (int k = 0; k < s.k; k++)
      b[at(lane, k)] = int8_t(extremes ? (random_below(2) ? 127 : -128) : random_below(256) - 128);
}

// Both panels and a run; sums are added to what is there if `accumulate`.
uint32_t multiply(const Shape &s, int half, bool a_across, bool b_across, bool accumulate) {
  uint32_t answer = send(BB_PORT_A, a, s.m, s.k, half, a_across);
  answer |= send(BB_PORT_B, b, s.n, s.k, half, b_across);
  return answer | cfu_op4(0, BB_RUN_0_A_HALF(half) | BB_RUN_0_B_HALF(half) | BB_RUN_0_C_HALF(half) |
                                 BB_RUN_0_ACCUMULATE(accumulate), 0);
}

void check_int32(const Shape &s, int half, int times) {
  same("readout", cfu_op5(0, BB_READOUT_0_HALF(half), 0), 0);
  for (int row = 0; row < s.m; row++)
    for (int column = 0; column < s.n; column++)
      same("sum", cfu_op6(0, 0, 0), uint32_t(times * dot(row, column, s.k)));
}

// By 64-bit arithmetic: the sums are so small here that nothing overflows it.
int requantised(int32_t sum, int column, uint32_t multiplier, int shift, bool stochastic, uint32_t seed,
                uint32_t index) {
  int64_t value = (int64_t(sum) + column % BIAS - BIAS / 2) * int32_t(multiplier);
  const uint32_t fraction = stochastic ? bb_random_bits(seed, index) : 0x80000000u;
  value = (value + int64_t(fraction >> (32 - shift))) >> shift;
  value += 3;
  return int(value < -100 ? -100 : value > 120 ? 120 : value);
}

void check_int8(const Shape &s, int half, bool stochastic) {
  const int shift = 30;
  const uint32_t seed = 0xBB000000u + uint32_t(s.k), first = 1000;
  const uint32_t multiplier = (1u << shift) / uint32_t(48 * s.k) + 1;  // so that some are clipped
  same("table", cfu_op1(BB_SET_TABLE, BB_TABLE_TILE(0) | BB_TABLE_LANE(0), 0), 0);
  same("shift", cfu_op1(BB_SET_SHIFT, shift, 0), 0);
  for (int column = 0; column < s.n; column++)
    same("entry", cfu_op3(BB_PORT_TABLE, uint32_t(column % BIAS - BIAS / 2), multiplier), 0);
  same("seed", cfu_op1(BB_SET_SEED, seed, 0), 0);
  same("pitch", cfu_op1(BB_SET_PITCH, s.n, 0), 0);
  same("clip", cfu_op1(BB_SET_CLIP, BB_CLIP_ZERO_POINT(3) | BB_CLIP_LOW(-100) | BB_CLIP_HIGH(120), 0), 0);
  same("readout", cfu_op5(0, BB_READOUT_0_HALF(half) | BB_READOUT_0_REQUANTISE(1) |
                                 BB_READOUT_0_STOCHASTIC(stochastic), first), 0);
  for (int row = 0; row < s.m; row++)
    for (int column = 0; column < s.n; column += 4) {
      uint32_t word = 0;
      for (int n = 0; n < 4 && column + n < s.n; n++) {
        const int value = requantised(dot(row, column + n, s.k), column + n, multiplier, shift, stochastic,
                                      seed, first + uint32_t(row * s.n + column + n));
        word |= uint32_t(value & 0xFF) << (8 * n);
      }
      same("word", cfu_op6(0, 0, 0), word);
    }
}

// Reads what the core has; false if there is none.
bool open_core() {
  cfu_op7(0, 0, 0);
  const uint32_t id = cfu_op0(BB_GET_ID, 0, 0), size = cfu_op0(BB_GET_SIZE, 0, 0);
  if (!same("identity", BB_ID_IDENTITY_OF(id), BB_IDENTITY)) return false;
  if (!same("version", BB_ID_VERSION_OF(id), BB_VERSION)) return false;
  core.rows = int(BB_ID_ROWS_OF(id));
  core.columns = int(BB_ID_COLUMNS_OF(id));
  core.depth = int(BB_SIZE_DEPTH_OF(size));
  core.tiles = int(BB_SIZE_TILES_OF(size));
  return true;
}

// As much of it as fits the core and the buffers here.
Shape fitting(int m, int n, int k) {
  Shape s = {minimum(m, MOST_LANES), minimum(n, MOST_LANES), minimum(k, MOST_DEPTH)};
  while (ceil_div(s.m, core.rows) * ceil_div(s.n, core.columns) > core.tiles)
    if (s.m > s.n) s.m = ceil_div(s.m, 2);
    else s.n = ceil_div(s.n, 2);
  const int lanes = ceil_div(s.m, core.rows), other = ceil_div(s.n, core.columns);
  const int words = core.depth / WORD / (lanes > other ? lanes : other);
  s.k = minimum(s.k, words * WORD);
  return s;
}

void check_errors() {
  const uint32_t push_a = BB_PORT_A << 3 | BB_OP_PUSH;
  same("push without a load", cfu_op3(BB_PORT_A, 1, 2), BB_ERROR_NO_LOAD);
  same("after an error", cfu_op4(0, 0, 0), BB_ERROR_NO_LOAD);
  same("its code", cfu_op0(BB_GET_ERROR, 0, 0), BB_ERROR_NO_LOAD);
  same("its value", cfu_op0(BB_GET_ERROR_VALUE, 0, 0), push_a);
  same("reset", cfu_op7(0, 0, 0), 0);
  same("no error", cfu_op0(BB_GET_ERROR, 0, 0), BB_ERROR_NONE);
  same("read without a product", cfu_op6(0, 0, 0), BB_ERROR_NO_RESULT);
  cfu_op7(0, 0, 0);
  load(BB_PORT_A, BB_LOAD_0_DEPTH(8) | BB_LOAD_0_TILES(1) | BB_LOAD_0_LAST(1), 0);
  same("-128 on port A", push(BB_PORT_A, 0x80, 0), BB_ERROR_OPERAND);
  cfu_op7(0, 0, 0);
}

void do_self_test(void) {
  failures = checks = 0;
  random_state = 1;
  const unsigned before = perf_get_mcycle();
  if (open_core()) {
    printf("%d x %d array, %d bytes per lane, %d accumulator tiles\n", core.rows, core.columns, core.depth,
           core.tiles);
    check_errors();
    const Shape shapes[] = {
        fitting(1, 1, 1),
        fitting(core.rows, core.columns, 8),
        fitting(core.rows + 1, 2 * core.columns - 1, 13),
        fitting(core.rows, core.columns, core.depth),
        fitting(3 * core.rows - 1, 2 * core.columns + 2, 27),
    };
    int number = 0;
    for (const Shape &s : shapes)
      for (int op = 0; op < 4; op++, number++) {
        const int half = number & 1;
        fill(s, number % 3 == 2);
        same("product", multiply(s, half, op & 1, op >> 1, false), 0);
        check_int32(s, half, 1);
        check_int8(s, half, number & 1);
        same("again", multiply(s, half, op & 1, op >> 1, true), 0);
        check_int32(s, half, 2);
      }
    same("error at the end", cfu_op0(BB_GET_ERROR, 0, 0), BB_ERROR_NONE);
  }
  const unsigned cycles = perf_get_mcycle() - before;
  printf("%lu comparisons, %lu failures, %u cycles\n", checks, failures, cycles);
  puts(failures ? "FAIL" : "PASS");
}

void do_products(void) {
  failures = checks = 0;
  random_state = 1;
  if (!open_core()) {
    puts("FAIL");
    return;
  }
  puts("   M    N    K  cycles: CPU  with CFU  core busy");
  for (int scale = 1; scale <= 4; scale *= 2) {
    const Shape s = fitting(scale * core.rows, scale * core.columns, scale * 64);
    fill(s, false);
    unsigned before = perf_get_mcycle();
    uint32_t sum = 0;
    for (int row = 0; row < s.m; row++)
      for (int column = 0; column < s.n; column++) sum += uint32_t(dot(row, column, s.k));
    const unsigned software = perf_get_mcycle() - before;
    const uint32_t busy = cfu_op0(BB_GET_BUSY, 0, 0);
    before = perf_get_mcycle();
    same("product", multiply(s, 0, false, false, false), 0);
    cfu_op5(0, 0, 0);
    for (int n = 0; n < s.m * s.n; n++) sum -= cfu_op6(0, 0, 0);
    const unsigned hardware = perf_get_mcycle() - before;
    same("total of the sums", sum, 0);
    printf("%4d %4d %4d %12u %9u %10lu\n", s.m, s.n, s.k, software, hardware,
           (unsigned long)(cfu_op0(BB_GET_BUSY, 0, 0) - busy));
  }
#ifdef CFU_SOFTWARE_DEFINED
  puts("The CFU is software: its cycles are those of emulating it, and it counts none.");
#endif
  puts(failures ? "FAIL" : "PASS");
}

struct Menu MENU = {
    "Backbeat",
    "backbeat",
    {
        MENU_ITEM('t', "self-Test", do_self_test),
        MENU_ITEM('p', "cycles of Products", do_products),
        MENU_END,
    },
};

}  // anonymous namespace

extern "C" void do_proj_menu() { menu_run(&MENU); }
