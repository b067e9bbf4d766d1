/* Commands right behind commands that wait, and loads and stores of main memory in between: the core must
 * see these commands and no others. For test_nexys_a7.py. */

#include "backbeat.h"
#include "platform.h"

/* Not constant: it is loaded right behind each command. */
static volatile uint32_t *volatile memory = (volatile uint32_t *)0x40100000u;
static struct bb_descriptor *const nothing = (struct bb_descriptor *)0x40200000u;

int main(void)
{
    uint32_t wrong = 0, error = bb_open();
    for (int i = 0; i < BB_DESCRIPTOR_WORDS; i++) nothing->word[i] = 0;
    nothing->word[0] = BB_DESCRIPTOR_OP(BB_DESCRIPTOR_NONE) | BB_DESCRIPTOR_LAST(1);
    for (uint32_t i = 0; i < 100 && !error; i++) {
        memory[i] = i;
        bb_set(DOORBELL, (uintptr_t)nothing);
        uint32_t fence = bb_get(FENCE);
        memory[i + 2] = fence;
        uint32_t completed = bb_get(COMPLETED);
        memory[i + 1] = completed;
        bb_invalidate();
        wrong += (memory[i] != i) + (fence != 1) + (completed != i + 1) + (memory[i + 1] != completed);
        error = bb_get(ERROR);
    }
    bb_print("error %u value %x wrong %u\n", error, bb_get(ERROR_VALUE), wrong);
    bb_finish(0);
}
