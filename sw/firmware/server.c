/* Does what a host asks for through the mailbox in main memory: commands for the core, and checksums of
 * what the host has written and is going to read. */

#include "backbeat.h"
#include "platform.h"
#include "server.h"

#ifdef BB_LITEX
#include <generated/mem.h>
#define BB_MEMORY       MAIN_RAM_BASE
#define BB_MEMORY_SIZE  MAIN_RAM_SIZE
#endif
#ifndef BB_MEMORY
#define BB_MEMORY       0x40000000u
#endif
#ifndef BB_MEMORY_SIZE
#define BB_MEMORY_SIZE  (64u << 20)
#endif

#define WORDS(offset) ((volatile uint32_t *)(BB_MEMORY + (offset)))

enum { SIGN_OF_LIFE = 4096, HEAD = BB_RESPONSE_CONTENT - BB_RESPONSE_CRC - 1 };

static volatile uint32_t *const header = WORDS(0);
static volatile uint32_t *const response = WORDS(BB_MAILBOX_RESPONSE);
static volatile uint32_t *const request = WORDS(BB_MAILBOX_REQUEST);
static volatile uint32_t *const work = WORDS(BB_MAILBOX_WORK);

static uint32_t crc_table[256];

static void prepare_crc(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
        crc_table[i] = c;
    }
}

/* Of whole words. */
static uint32_t crc(volatile const uint32_t *word, uint32_t bytes)
{
    uint32_t c = 0xFFFFFFFFu;
    for (uint32_t left = bytes / 4; left; left--) {
        c ^= *word++;
        c = c >> 8 ^ crc_table[c & 255];
        c = c >> 8 ^ crc_table[c & 255];
        c = c >> 8 ^ crc_table[c & 255];
        c = c >> 8 ^ crc_table[c & 255];
        if (left % SIGN_OF_LIFE == 0) response[BB_RESPONSE_ALIVE]++;
    }
    return ~c;
}

/* Registers and ports are constants of an instruction: one for each legal pair. */
static uint32_t command(uint32_t function_id, uint32_t input_0, uint32_t input_1)
{
    switch (function_id) {
#define LEGAL(op, port) case BB_OP_##op | (port) << 3: return bb_cfu(BB_OP_##op, port, input_0, input_1);
    LEGAL(GET, 0) LEGAL(GET, 1) LEGAL(GET, 2) LEGAL(GET, 3) LEGAL(GET, 4) LEGAL(GET, 5) LEGAL(GET, 6)
    LEGAL(GET, 7) LEGAL(GET, 8) LEGAL(GET, 9) LEGAL(GET, 10) LEGAL(GET, 11) LEGAL(GET, 12) LEGAL(GET, 13)
    LEGAL(GET, 14) LEGAL(GET, 15) LEGAL(GET, 16) LEGAL(GET, 17) LEGAL(GET, 18)
    LEGAL(SET, 0) LEGAL(SET, 1) LEGAL(SET, 2) LEGAL(SET, 3) LEGAL(SET, 4) LEGAL(SET, 5) LEGAL(SET, 6)
    LEGAL(SET, 7)
    LEGAL(LOAD, BB_PORT_A) LEGAL(LOAD, BB_PORT_B)
    LEGAL(PUSH, BB_PORT_A) LEGAL(PUSH, BB_PORT_B) LEGAL(PUSH, BB_PORT_TABLE) LEGAL(PUSH, BB_PORT_DESCRIPTOR)
    LEGAL(RUN, 0) LEGAL(READOUT, 0) LEGAL(READ, 0) LEGAL(RESET, 0)
    }
    /* The core's own answer to what does not exist. Its value is this register, not what was asked for. */
    return bb_cfu(BB_OP_GET, 127, input_0, input_1);
}

static int inside(uint32_t address, uint32_t bytes)
{
    return ((address | bytes) & 3) == 0 && address - BB_MEMORY <= BB_MEMORY_SIZE
        && bytes <= BB_MEMORY_SIZE - (address - BB_MEMORY);
}

struct answer { uint32_t status, words; };

static struct answer stopped(uint32_t status, uint32_t at)
{
    response[BB_RESPONSE_CONTENT] = at;
    return (struct answer){status, 1};
}

/* `order` holds `size` words of orders. */
static struct answer carry_out(volatile const uint32_t *order, uint32_t size)
{
    volatile uint32_t *out = response + BB_RESPONSE_CONTENT;
    uint32_t answered = 0, at = 0;
    while (at < size) {
        const uint32_t kind = order[at] >> 24, left = size - at;
        const uint32_t first = left > 1 ? order[at + 1] : 0, second = left > 2 ? order[at + 2] : 0;
        response[BB_RESPONSE_ALIVE]++;
        if (kind == BB_ORDER_SAME || kind == BB_ORDER_EACH) {
            const uint32_t function_id = order[at] & 0x3FF, answers = order[at] & BB_ORDER_ANSWER;
            const uint32_t step = kind == BB_ORDER_EACH ? 2 : 0;
            if (left < 2 || first > 1u << 24 || left < 2 + (step ? 2 * first : 2)
                || (answers && first > BB_MAILBOX_CAPACITY - answered))
                return stopped(BB_STATUS_MALFORMED, at);
            volatile const uint32_t *input = order + at + 2;
            for (uint32_t i = 0; i < first; i++, input += step) {
                uint32_t result = command(function_id, input[0], input[1]);
                if (answers) out[answered++] = result;
            }
            at += 2 + (step ? 2 * first : 2);
        } else if (kind == BB_ORDER_EXPECT) {
            if (left < 4 || !inside(first, second)) return stopped(BB_STATUS_MALFORMED, at);
            bb_invalidate();
            if (crc((volatile const uint32_t *)(uintptr_t)first, second) != order[at + 3])
                return stopped(BB_STATUS_UNEXPECTED, at);
            at += 4;
        } else if (kind == BB_ORDER_CRC) {
            if (left < 3 || !inside(first, second) || answered == BB_MAILBOX_CAPACITY)
                return stopped(BB_STATUS_MALFORMED, at);
            bb_invalidate();
            out[answered++] = crc((volatile const uint32_t *)(uintptr_t)first, second);
            at += 3;
        } else if (kind == BB_ORDER_CLEAR) {
            if (left < 3 || !inside(first, second) || first - BB_MEMORY < BB_MAILBOX_BYTES)
                return stopped(BB_STATUS_MALFORMED, at);
            volatile uint32_t *word = (volatile uint32_t *)(uintptr_t)first;
            for (uint32_t n = second / 4; n; n--) {
                *word++ = 0;
                if (n % SIGN_OF_LIFE == 0) response[BB_RESPONSE_ALIVE]++;
            }
            at += 3;
        } else {
            return stopped(BB_STATUS_MALFORMED, at);
        }
    }
    return (struct answer){BB_STATUS_DONE, answered};
}

static void publish(uint32_t number, struct answer answer)
{
    response[BB_RESPONSE_NUMBER] = number;
    response[BB_RESPONSE_BOOT] = header[BB_HEADER_BOOT];
    response[BB_RESPONSE_STATUS] = answer.status;
    response[BB_RESPONSE_WORDS] = answer.words;
    response[BB_RESPONSE_CRC] = crc(response + BB_RESPONSE_CRC + 1, 4 * (HEAD + answer.words));
}

/* The request as it is now, copied: what a late frame does to it later does not matter. 0 if it is not
 * whole. */
static int take(void)
{
    const uint32_t words = request[BB_REQUEST_WORDS];
    if (words > BB_MAILBOX_CAPACITY) return 0;
    for (uint32_t i = 0; i < BB_REQUEST_CONTENT + words; i++) work[i] = request[i];
    return work[BB_REQUEST_WORDS] == words
        && crc(work + BB_REQUEST_NUMBER, 4 * (BB_REQUEST_CONTENT - BB_REQUEST_NUMBER + words))
           == work[BB_REQUEST_CRC];
}

int main(void)
{
    int error = bb_open();
    prepare_crc();
    uint32_t last = 0, seen = request[BB_REQUEST_POSTED];
    header[BB_HEADER_BOOT]++;       /* whatever was there */
    response[BB_RESPONSE_ALIVE] = 0;
    response[BB_RESPONSE_REFUSED] = seen;
    publish(last, (struct answer){BB_STATUS_DONE, 0});
    header[BB_HEADER_VERSION] = BB_MAILBOX_VERSION;
    header[BB_HEADER_BASE] = BB_MEMORY;
    header[BB_HEADER_SIZE] = BB_MEMORY_SIZE;
    header[BB_HEADER_MAGIC] = BB_MAILBOX_MAGIC;
    header[BB_HEADER_CRC] = crc(header, 4 * BB_HEADER_CRC);
    bb_print(error ? "server: no core (%s)\n" : "server: ready\n", bb_error_name(error));

    for (;;) {
        bb_invalidate();
        const uint32_t posted = request[BB_REQUEST_POSTED];
        if (posted == seen) continue;
        seen = posted;
        if (!take()) {
            response[BB_RESPONSE_REFUSED] = posted;
        } else if (work[BB_REQUEST_NUMBER] != last) {
            struct answer answer = carry_out(work + BB_REQUEST_CONTENT, work[BB_REQUEST_WORDS]);
            last = work[BB_REQUEST_NUMBER];
            publish(last, answer);
        }
    }
}
