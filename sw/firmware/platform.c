#include "platform.h"

#include <stdarg.h>
#include <stddef.h>

#ifdef BB_LITEX
#include <generated/csr.h>

void bb_putchar(char c)
{
#ifdef CSR_UART_BASE
    while (uart_txfull_read()) ;
    uart_rxtx_write(c);
#else
    (void)c;
#endif
}

void bb_finish(int code)
{
    (void)code;
#ifdef CSR_SIM_FINISH_BASE
    sim_finish_finish_write(1);
#endif
    for (;;) ;
}
#else
/* Registers of the small SoC, see sw/backbeat/soc/soc.cpp. */
#define CONSOLE (*(volatile uint32_t *)0xF0000000u)
#define FINISH  (*(volatile uint32_t *)0xF0000004u)

void bb_putchar(char c) { CONSOLE = (uint8_t)c; }

void bb_finish(int code)
{
    FINISH = code;
    for (;;) ;
}
#endif

static void number(uint32_t value, uint32_t base, int negative, int width, char fill)
{
    char digits[12];
    int count = 0;
    do digits[count++] = "0123456789abcdef"[value % base]; while (value /= base);
    if (negative) digits[count++] = '-';
    for (; width > count; width--) bb_putchar(fill);
    while (count) bb_putchar(digits[--count]);
}

void bb_print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            bb_putchar(*format);
            continue;
        }
        char fill = *++format == '0' ? '0' : ' ';
        int width = 0;
        while (*format >= '0' && *format <= '9') width = 10 * width + *format++ - '0';
        if (*format == 'd') {
            int32_t value = va_arg(arguments, int);
            number(value < 0 ? -(uint32_t)value : (uint32_t)value, 10, value < 0, width, fill);
        } else if (*format == 'u') {
            number(va_arg(arguments, unsigned), 10, 0, width, fill);
        } else if (*format == 'x') {
            number(va_arg(arguments, unsigned), 16, 0, width, fill);
        } else if (*format == 'c') {
            bb_putchar(va_arg(arguments, int));
        } else if (*format == 's') {
            for (const char *s = va_arg(arguments, const char *); *s; s++) {
                bb_putchar(*s);
                width--;
            }
            for (; width > 0; width--) bb_putchar(' ');
        } else {
            bb_putchar(*format);
        }
    }
    va_end(arguments);
}

/* The compiler may call these even without a standard library. */
void *memset(void *to, int value, size_t size)
{
    for (uint8_t *p = to; size--; ) *p++ = value;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *p = to;
    for (const uint8_t *q = from; size--; ) *p++ = *q++;
    return to;
}
