// The rest of CFU-Playground: picks a menu item, or hands commands on.
//
// Usage: program MENU_ITEM | program commands
// `commands` reads four words each (funct3, funct7, two inputs) and writes the answers.
// With -DRTL the CFU is the Verilated core; otherwise software_cfu.cc is linked.

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cfu_playground.hpp"

#ifdef RTL
#include "VCfu.h"

static unsigned cycles;
static VCfu *cfu;

static void clock_once()
{
    cfu->clk = 0;
    cfu->eval();
    cfu->clk = 1;
    cfu->eval();
    cycles++;
}

extern "C" uint32_t software_cfu(int funct3, int funct7, uint32_t rs1, uint32_t rs2)
{
    if (!cfu) {
        cfu = new VCfu;
        cfu->reset = 1;
        clock_once();
        clock_once();
        cfu->reset = 0;
        clock_once();
        clock_once();
    }
    cfu->cmd_payload_function_id = funct7 << 3 | funct3;
    cfu->cmd_payload_inputs_0 = rs1;
    cfu->cmd_payload_inputs_1 = rs2;
    cfu->cmd_valid = 1;
    cfu->rsp_ready = 1;
    cfu->eval();
    for (int patience = 1000000; !cfu->cmd_ready; patience--) {
        if (!patience) exit(3);
        clock_once();
    }
    clock_once();
    cfu->cmd_valid = 0;
    cfu->eval();
    for (int patience = 1000000; !cfu->rsp_valid; patience--) {
        if (!patience) exit(3);
        clock_once();
    }
    const uint32_t answer = cfu->rsp_payload_outputs_0;
    clock_once();
    return answer;
}

extern "C" unsigned perf_get_mcycle() { return cycles; }
#else
extern "C" unsigned perf_get_mcycle() { return 0; }
#endif

static char picked;

extern "C" void menu_run(struct Menu *menu)
{
    for (MenuItem *item = menu->items; item->selection; item++)
        if (item->selection == picked && item->fn) item->fn();
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "commands")) {
        uint32_t in[4];
        while (fread(in, sizeof in, 1, stdin) == 1) {
            const uint32_t out = software_cfu(int(in[0]), int(in[1]), in[2], in[3]);
            fwrite(&out, sizeof out, 1, stdout);
        }
        return 0;
    }
    if (argc != 2 || argv[1][1]) return 2;
    picked = argv[1][0];
    do_proj_menu();
    return 0;
}
