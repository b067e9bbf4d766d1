/* Trains the perceptron that it finds in memory, and says what a step took. */

#include "backbeat.h"
#include "mlp.h"
#include "platform.h"

int main(void)
{
    struct mlp_table *t = (struct mlp_table *)MLP_TABLE_ADDRESS;
    int error = bb_open();
    if (!error) error = mlp_open(t);
    if (!error) {
        bb_print("core %ux%u, network %u-%u-%u, batch %u\n", bb_core.rows, bb_core.columns, t->inputs,
                 t->hidden, t->classes, t->batch);
        while (!error && t->step < t->steps) error = mlp_step(t);
        if (!error) error = mlp_close(t);
    }
    t->error = error;
    if (error) {
        const char *name = bb_error_name(error);
        uint32_t value = bb_error_value();
        if (error == MLP_ERROR_TABLE) name = "NO_TABLE", value = t->magic;
        if (error == MLP_ERROR_CLASSES) name = "CLASSES", value = t->classes;
        bb_print("step %u: error %d %s, value %x\n", t->step, error, name, value);
        return 1;
    }
    bb_print("step %u: %u cycles, %u of them the CPU computes; products %u, update %u\n", t->step,
             t->cycles, t->cpu_cycles, t->product_cycles, t->update_cycles);
    return 0;
}
