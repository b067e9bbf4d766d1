/* An exception is a bug: says where, and ends. */

#include "platform.h"

void bb_trap(uint32_t cause, uint32_t pc, uint32_t value) __attribute__((noreturn));

void bb_trap(uint32_t cause, uint32_t pc, uint32_t value)
{
    bb_print("trap: cause %u at %08x, value %08x\n", cause, pc, value);
    bb_finish(128 + (cause & 127));
}
