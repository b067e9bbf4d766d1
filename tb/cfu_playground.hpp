// What the project for CFU-Playground finds there: as little of it as the menu needs.

#pragma once

#include <stdint.h>

extern "C" uint32_t software_cfu(int funct3, int funct7, uint32_t rs1, uint32_t rs2);
extern "C" unsigned perf_get_mcycle();

#ifdef __riscv
// The instruction itself: funct7 must be a constant, and expand to a number.
#define CFU_OP(funct3, funct7, in0, in1) ({                                                        \
    uint32_t out;                                                                                  \
    asm volatile(".insn r 0x0B, " #funct3 ", " #funct7 ", %0, %1, %2"                              \
                 : "=r"(out) : "r"((uint32_t)(in0)), "r"((uint32_t)(in1)));                        \
    out; })
#else
#define CFU_OP(funct3, funct7, in0, in1) software_cfu(funct3, funct7, in0, in1)
#endif
#define cfu_op0(funct7, in0, in1) CFU_OP(0, funct7, in0, in1)
#define cfu_op1(funct7, in0, in1) CFU_OP(1, funct7, in0, in1)
#define cfu_op2(funct7, in0, in1) CFU_OP(2, funct7, in0, in1)
#define cfu_op3(funct7, in0, in1) CFU_OP(3, funct7, in0, in1)
#define cfu_op4(funct7, in0, in1) CFU_OP(4, funct7, in0, in1)
#define cfu_op5(funct7, in0, in1) CFU_OP(5, funct7, in0, in1)
#define cfu_op6(funct7, in0, in1) CFU_OP(6, funct7, in0, in1)
#define cfu_op7(funct7, in0, in1) CFU_OP(7, funct7, in0, in1)

struct MenuItem {
    char selection;
    const char *description;
    void (*fn)(void);
    bool exit;
};
struct Menu {
    const char *title, *prompt;
    MenuItem items[8];
};
#define MENU_ITEM(selection, description, fn) {selection, description, fn, false}
#define MENU_END {'x', "exit", nullptr, true}, {'\0', nullptr, nullptr, false}
extern "C" void menu_run(struct Menu *menu);
extern "C" void do_proj_menu();
