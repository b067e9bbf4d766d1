/* What firmware finds around the core: a console and an end. By default the small SoC of the simulation;
 * with -DBB_LITEX a LiteX SoC, whose generated csr.h says where they are. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdint.h>

void bb_putchar(char);

/* %d %u %x (of 32 bits) %s %c %%, a width and leading zeros. */
void bb_print(const char *format, ...);

/* Ends the simulation with that exit code; on a board, waits for ever. */
void bb_finish(int code) __attribute__((noreturn));

#endif
