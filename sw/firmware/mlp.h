/* A perceptron of two layers that learns in integers; the model is sw/backbeat/soc/mlp.py.
 *
 * Everything it works on is in main memory, where a table says what is where (mlp_table.h). With
 * -DBB_SOFTWARE the CPU does it all, to the same bits.
 */
#ifndef MLP_H
#define MLP_H

#include "mlp_table.h"

enum mlp_error {
    MLP_ERROR_TABLE = 200,      /* no table at MLP_TABLE_ADDRESS */
    MLP_ERROR_CLASSES,          /* more classes than MLP_CLASSES */
};

/* Prepares the products and computes the first batch's logits. 0, or an error here or of backbeat.h. */
int mlp_open(struct mlp_table *);

/* One step, up to the logits of the next batch; the core may still be at the weights' low digits. */
int mlp_step(struct mlp_table *);

/* Waits until all weights are in memory, and tells the table what the last step took. */
int mlp_close(struct mlp_table *);

#endif
