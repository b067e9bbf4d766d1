/* What firmware finds in memory. Generated from sw/backbeat/soc/mlp_table.py by
 * `python -m backbeat.soc.mlp_table`; do not edit. */
#ifndef MLP_TABLE_H
#define MLP_TABLE_H

#include <stdint.h>

#define MLP_MAGIC       0x31504c4du
#define MLP_DESCRIPTORS 14
#define MLP_CLASSES     64

#ifndef MLP_TABLE_ADDRESS
#define MLP_TABLE_ADDRESS 0x40000000u
#endif

struct mlp_table {
    uint32_t magic;                   /* MLP_MAGIC */
    uint32_t inputs;                  /* sizes of the network */
    uint32_t hidden;
    uint32_t classes;
    uint32_t batch;
    uint32_t block;                   /* rows of the matrix that a plane is in the update */
    uint32_t rows;                    /* of X; behind the last one, the first ones once more */
    uint32_t x_pitch;                 /* bytes of a row of X and W1 */
    uint32_t h_pitch;                 /* of H, dH and W2 */
    uint32_t z_pitch;                 /* of Z and dZ */
    uint32_t plane;                   /* bytes of a plane: W1, W2, zeros */
    uint32_t w2;                      /* where W2 begins in it */
    uint32_t x;                       /* addresses: int8 [rows, x_pitch], constant, then zeros, last */
    uint32_t labels;                  /* uint8 [rows] */
    uint32_t planes;                  /* int8 [4, plane]: high (even steps), low, G, high (odd steps) */
    uint32_t master;                  /* int16 [plane]: the weights, of firmware without a core */
    uint32_t h;                       /* int8 [batch, h_pitch], likewise */
    uint32_t z;                       /* int8 [batch, z_pitch] */
    uint32_t dz;                      /* int8 [batch, z_pitch] */
    uint32_t dh;                      /* int8 [batch, h_pitch], zeros behind the others */
    uint32_t coefficients;            /* int8 [block, 4 * block] */
    uint32_t exp;                     /* uint16 [256] */
    uint32_t hidden_columns;          /* struct bb_column, a column of C each: of relu(X W1^T) */
    uint32_t logits_columns;          /* of H W2^T */
    uint32_t hidden_gradient_columns; /* of dZ W2 */
    uint32_t step_2_columns;          /* of dZ^T H */
    uint32_t step_1_columns;          /* of dH^T X */
    uint32_t high_columns;            /* of the update's two products */
    uint32_t low_columns;
    uint32_t strides;                 /* uint32 [stride_count]: distances of a batch's rows */
    uint32_t stride_count;
    uint32_t descriptors;             /* room for MLP_DESCRIPTORS of them */
    uint32_t seed;                    /* of everything random */
    uint32_t steps;                   /* to be taken in all */
    uint32_t step;                    /* written by the firmware: steps taken */
    uint32_t right;                   /* rows whose largest logit was their label's, of all steps */
    uint32_t cycles;                  /* of the last step, from logits to logits */
    uint32_t cpu_cycles;              /* in which the CPU computes; in the others it waits */
    uint32_t product_cycles;          /* of the products, beside the CPU or on it */
    uint32_t update_cycles;           /* of the update, likewise */
    uint32_t error;                   /* 0, or why the firmware stopped */
};

#endif
