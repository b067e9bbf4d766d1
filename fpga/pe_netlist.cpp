// The processing element twice: its Verilog, and the netlist of xc7 cells that yosys makes of it.
//
// Both get the same inputs, a step per cycle; every output of theirs is compared in every cycle. Beside
// them the same sums are kept in 64-bit integers, so that both being wrong is noticed too.
//
// Usage: pe_netlist triples | accumulations MAX_K CYCLES SEED
// Prints the figures as JSON, or the first difference to stderr, with exit code 1.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "VNetlist.h"
#include "VRtl.h"

namespace {

// As in pe.py.
constexpr int LOW = 17, LATENCY = 3, COUNT_LAG = 3, DEPTH = LATENCY + COUNT_LAG;

struct Step {
    int a0 = 0, a1 = 0, b = 0;
    bool first = true;
    // What the accumulators hold after this step, and whether they are within their widths.
    int64_t low = 0, high = 0;
    bool exact = true;
};

int64_t extend(uint64_t value, int bits) { return int64_t(value << (64 - bits)) >> (64 - bits); }

class Bench {
public:
    Bench() : rtl(new VRtl), netlist(new VNetlist) {}
    ~Bench() { delete rtl; delete netlist; }

    void step(int a0, int a1, int b, bool first, bool exact = true) {
        Step now{a0, a1, b, first, 0, 0, exact};
        const Step &before = past[(cycle - 1) & 15];
        now.low = (first ? 0 : before.low) + int64_t(a0) * b;
        now.high = (first ? 0 : before.high) + int64_t(a1) * b;
        now.exact = exact && (first || before.exact);
        past[cycle & 15] = now;

        const unsigned pair = (unsigned(a0) & 0xFF) | (unsigned(a1 - (a0 < 0)) & 0xFF) << 8;
        clock(rtl, pair, unsigned(b) & 0xFF, first);
        clock(netlist, pair, unsigned(b) & 0xFF, first);
        compare();
        cycle++;
    }

    uint64_t cycle = 16, checked = 0;

private:
    template <class Model> static void clock(Model *model, unsigned pair, unsigned b, bool first) {
        model->i_a = pair;
        model->i_b = b;
        model->i_first = first;
        model->rst = 0;
        model->clk = 0;
        model->eval();
        model->clk = 1;
        model->eval();
    }

    void compare() {
        // What was in the registers before the first steps says nothing.
        if (cycle < 16 + DEPTH + 1) return;
        same("o_a", rtl->o_a, netlist->o_a);
        same("o_b", rtl->o_b, netlist->o_b);
        same("o_first", rtl->o_first, netlist->o_first);
        same("o_p", rtl->o_p, netlist->o_p);
        same("o_count", rtl->o_count, netlist->o_count);
        checked++;

        // The step whose count is there now, and its P, which was there COUNT_LAG cycles ago.
        const Step &done = past[(cycle - DEPTH + 1) & 15];
        const uint64_t p = packed[(cycle - COUNT_LAG) & 15];
        packed[cycle & 15] = netlist->o_p;
        if (!done.exact || cycle < 16 + 2 * DEPTH) return;
        const int64_t count = extend(netlist->o_count, COUNT_BITS);
        const int64_t low = count * (int64_t(1) << LOW) + int64_t(p & ((1u << LOW) - 1));
        const int64_t high = (extend(p, P_BITS) >> LOW) - count;
        if (low != done.low || high != done.high) {
            fprintf(stderr, "cycle %llu, step a0=%d a1=%d b=%d first=%d: sums %lld, %lld, expected %lld, "
                    "%lld\n", (unsigned long long)cycle, done.a0, done.a1, done.b, done.first,
                    (long long)low, (long long)high, (long long)done.low, (long long)done.high);
            exit(1);
        }
    }

    void same(const char *port, uint64_t expected, uint64_t got) {
        if (expected == got) return;
        const Step &now = past[cycle & 15];
        fprintf(stderr, "cycle %llu, with a0=%d a1=%d b=%d first=%d: %s of the netlist is %#llx, of the "
                "Verilog %#llx\n", (unsigned long long)cycle, now.a0, now.a1, now.b, now.first, port,
                (unsigned long long)got, (unsigned long long)expected);
        exit(1);
    }

    VRtl *rtl;
    VNetlist *netlist;
    Step past[16];
    uint64_t packed[16] = {};
};

void figures(const char *what, uint64_t count, uint64_t longest, const Bench &bench) {
    printf("{\"%s\": %llu, \"longest\": %llu, \"cycles\": %llu}\n", what, (unsigned long long)count,
           (unsigned long long)longest, (unsigned long long)bench.checked);
}

// Every value of the 24 operand bits, each a product of one step.
void triples() {
    Bench bench;
    uint64_t count = 0;
    for (int h = -128; h < 128; h++)
        for (int a0 = -128; a0 < 128; a0++)
            for (int b = -128; b < 128; b++, count++)
                bench.step(a0, h + (a0 < 0), b, true);
    for (int n = 0; n < 2 * DEPTH; n++) bench.step(0, 0, 0, true);
    figures("triples", count, 1, bench);
}

// Sums of all lengths, one behind the other, of operands of several kinds.
void accumulations(uint64_t max_k, uint64_t cycles, uint64_t seed) {
    Bench bench;
    std::mt19937_64 random(seed);
    auto below = [&](uint64_t n) { return random() % n; };
    const int edges[] = {-127, -1, 0, 1, 127}, ends[] = {-127, 127};
    const int b_edges[] = {-128, -127, -1, 0, 1, 127}, b_ends[] = {-128, -127, 127};
    uint64_t count = 0, longest = 0;

    // The longest sums of each combination of extremes, with and without alternating signs.
    auto extremes = [&](uint64_t k) {
        for (int a0 : ends) for (int a1 : ends) for (int b : b_ends) for (int turn = 0; turn < 3; turn++) {
            for (uint64_t n = 0; n < k; n++) {
                const int sign = turn && (n >> (turn == 2 ? 3 : 0) & 1) ? -1 : 1;
                bench.step(sign * a0, sign * a1, b, n == 0);
            }
            count++;
        }
        if (k > longest) longest = k;
    };
    for (uint64_t k : {max_k, max_k - 1, uint64_t(2), uint64_t(1)}) if (k) extremes(k);

    while (bench.checked < cycles) {
        const uint64_t lengths[] = {1, 2, 3, 1 + below(60), 1 + below(max_k), max_k};
        const uint64_t k = lengths[below(6)] < max_k ? lengths[below(5)] : max_k;
        const uint64_t steps = k > max_k ? max_k : k;
        const int kind = int(below(4));
        int direction = 1;
        for (uint64_t n = 0; n < steps; n++) {
            int a0, a1, b;
            if (kind == 0) {            // anything
                a0 = int(below(255)) - 127, a1 = int(below(255)) - 127, b = int(below(256)) - 128;
            } else if (kind == 1) {     // where things change sign
                a0 = edges[below(5)], a1 = edges[below(5)], b = b_edges[below(6)];
            } else if (kind == 2) {     // the largest ones
                a0 = ends[below(2)], a1 = ends[below(2)], b = b_ends[below(3)];
            } else {                    // the low sum runs up and down through all quadrants
                if (!below(30)) direction = -direction;
                b = b_ends[below(3)];
                a0 = (b < 0 ? -direction : direction) * int(below(128)), a1 = int(below(255)) - 127;
            }
            bench.step(a0, a1, b, n == 0);
        }
        // As in an array that stands idle.
        if (!below(3)) for (uint64_t n = below(8); n; n--) bench.step(0, 0, 0, false);
        count++;
        if (steps > longest) longest = steps;
    }
    figures("accumulations", count, longest, bench);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "triples")) {
        triples();
    } else if (argc == 5 && !strcmp(argv[1], "accumulations")) {
        accumulations(strtoull(argv[2], nullptr, 10), strtoull(argv[3], nullptr, 10),
                      strtoull(argv[4], nullptr, 10));
    } else {
        fprintf(stderr, "usage: %s triples | accumulations MAX_K CYCLES SEED\n", argv[0]);
        return 2;
    }
    return 0;
}
