/* Instruction set of the Backbeat core. Generated from rtl/backbeat_rtl/isa.py by
 * `make isa`; do not edit. */
#ifndef BACKBEAT_ISA_H
#define BACKBEAT_ISA_H

#include <stdint.h>

#define BB_OP_GET                0  /* Returns the register `funct7`. Works in the error state. */
#define BB_OP_SET                1  /* Writes the register `funct7`. Not while values that depend on it are being read. */
#define BB_OP_LOAD               2  /* Starts loading a panel of operand `funct7`; waits while the half is being computed on. */
#define BB_OP_PUSH               3  /* Next 8 operand bytes of the panel (input 0 holds the first four), or next table entry. */
#define BB_OP_RUN                4  /* Multiplies the loaded panels; waits while another run is queued. Returns at once. */
#define BB_OP_READOUT            5  /* Starts reading a product; its words come when its runs have ended. */
#define BB_OP_READ               6  /* Next result word: one INT32, or up to four INT8 of a row. Waits for it. */
#define BB_OP_RESET              7  /* Forgets everything but buffer contents, mid-run too. Any `funct7`. */

#define BB_PORT_A                0  /* rows of the array; bytes -127...127, padding included */
#define BB_PORT_B                1  /* columns of the array; bytes -128...127 */
#define BB_PORT_TABLE            2  /* epilogue table (PUSH only): input 0 is the bias, input 1 the multiplier */

#define BB_GET_ID                0  /* `version`, `rows`, `columns` of the array, `identity` 0xBB */
#define BB_GET_SIZE              1  /* `depth` in bytes per lane and half, `tiles` per half of the accumulators */
#define BB_GET_STATUS            2  /* `loading`, `running`, `reading` */
#define BB_GET_ERROR             3  /* first error since reset, see Errors */
#define BB_GET_ERROR_VALUE       4  /* the value that caused it */
#define BB_GET_MAX_ABS           5  /* largest accumulator magnitude read since it was cleared */
#define BB_GET_CYCLES            6  /* clock cycles since reset, modulo 2^32 */
#define BB_GET_BUSY              7  /* of these, cycles in which a run was in progress */
#define BB_GET_FED               8  /* of these, cycles in which the array was fed a step of K */

#define BB_SET_SEED              0  /* seed of stochastic rounding */
#define BB_SET_PITCH             1  /* columns of C: the element index grows by it from row to row */
#define BB_SET_CLIP              2  /* `zero_point`, `low`, `high` (signed bytes) of the requantised result */
#define BB_SET_SHIFT             3  /* `shift` 0...62 of the table entries pushed from now on */
#define BB_SET_TABLE             4  /* column of the next table entry */
#define BB_SET_MAX_ABS           5  /* clears the maximum */

#define BB_ERROR_NONE            0  /* no error */
#define BB_ERROR_ILLEGAL         1  /* no such operation, register or port (value: function_id) */
#define BB_ERROR_SIZE            2  /* a size beyond the buffers, or zero (value: the input word) */
#define BB_ERROR_NOT_LOADED      3  /* RUN before a panel was complete (value: input 0) */
#define BB_ERROR_DEPTH           4  /* the panels differ in depth, or in extent from the sums to add to (value: input 0) */
#define BB_ERROR_NO_LOAD         5  /* PUSH without a panel that wants words (value: function_id) */
#define BB_ERROR_NO_RESULT       6  /* READOUT of a half that holds no product (value: input 0), or READ beyond its last word (value: function_id) */
#define BB_ERROR_OPERAND         7  /* -128 on port A (value: words pushed before it in this panel) */
#define BB_ERROR_BUSY            8  /* RUN or READOUT while a product is still being read (value: input 0) */

#define BB_IDENTITY              0xbb
#define BB_VERSION               1

#define BB_LOAD_0_DEPTH(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_LOAD_0_DEPTH_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_LOAD_0_TILES(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_LOAD_0_TILES_OF(w) (((uint32_t)(w) >> 16) & 0xffu)
#define BB_LOAD_0_LAST(x) (((uint32_t)(x) & 0xffu) << 24)
#define BB_LOAD_0_LAST_OF(w) (((uint32_t)(w) >> 24) & 0xffu)

#define BB_LOAD_1_HALF(x) (((uint32_t)(x) & 0x1u) << 0)
#define BB_LOAD_1_HALF_OF(w) (((uint32_t)(w) >> 0) & 0x1u)
#define BB_LOAD_1_ACROSS(x) (((uint32_t)(x) & 0x1u) << 1)
#define BB_LOAD_1_ACROSS_OF(w) (((uint32_t)(w) >> 1) & 0x1u)

#define BB_RUN_0_A_HALF(x) (((uint32_t)(x) & 0x1u) << 0)
#define BB_RUN_0_A_HALF_OF(w) (((uint32_t)(w) >> 0) & 0x1u)
#define BB_RUN_0_B_HALF(x) (((uint32_t)(x) & 0x1u) << 1)
#define BB_RUN_0_B_HALF_OF(w) (((uint32_t)(w) >> 1) & 0x1u)
#define BB_RUN_0_C_HALF(x) (((uint32_t)(x) & 0x1u) << 2)
#define BB_RUN_0_C_HALF_OF(w) (((uint32_t)(w) >> 2) & 0x1u)
#define BB_RUN_0_ACCUMULATE(x) (((uint32_t)(x) & 0x1u) << 3)
#define BB_RUN_0_ACCUMULATE_OF(w) (((uint32_t)(w) >> 3) & 0x1u)

#define BB_READOUT_0_HALF(x) (((uint32_t)(x) & 0x1u) << 0)
#define BB_READOUT_0_HALF_OF(w) (((uint32_t)(w) >> 0) & 0x1u)
#define BB_READOUT_0_REQUANTISE(x) (((uint32_t)(x) & 0x1u) << 1)
#define BB_READOUT_0_REQUANTISE_OF(w) (((uint32_t)(w) >> 1) & 0x1u)
#define BB_READOUT_0_STOCHASTIC(x) (((uint32_t)(x) & 0x1u) << 2)
#define BB_READOUT_0_STOCHASTIC_OF(w) (((uint32_t)(w) >> 2) & 0x1u)

#define BB_ID_VERSION(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_ID_VERSION_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_ID_ROWS(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_ID_ROWS_OF(w) (((uint32_t)(w) >> 8) & 0xffu)
#define BB_ID_COLUMNS(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_ID_COLUMNS_OF(w) (((uint32_t)(w) >> 16) & 0xffu)
#define BB_ID_IDENTITY(x) (((uint32_t)(x) & 0xffu) << 24)
#define BB_ID_IDENTITY_OF(w) (((uint32_t)(w) >> 24) & 0xffu)

#define BB_SIZE_DEPTH(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_SIZE_DEPTH_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_SIZE_TILES(x) (((uint32_t)(x) & 0xffffu) << 16)
#define BB_SIZE_TILES_OF(w) (((uint32_t)(w) >> 16) & 0xffffu)

#define BB_STATUS_LOADING(x) (((uint32_t)(x) & 0x1u) << 0)
#define BB_STATUS_LOADING_OF(w) (((uint32_t)(w) >> 0) & 0x1u)
#define BB_STATUS_RUNNING(x) (((uint32_t)(x) & 0x1u) << 1)
#define BB_STATUS_RUNNING_OF(w) (((uint32_t)(w) >> 1) & 0x1u)
#define BB_STATUS_READING(x) (((uint32_t)(x) & 0x1u) << 2)
#define BB_STATUS_READING_OF(w) (((uint32_t)(w) >> 2) & 0x1u)

#define BB_CLIP_ZERO_POINT(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_CLIP_ZERO_POINT_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_CLIP_LOW(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_CLIP_LOW_OF(w) (((uint32_t)(w) >> 8) & 0xffu)
#define BB_CLIP_HIGH(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_CLIP_HIGH_OF(w) (((uint32_t)(w) >> 16) & 0xffu)

#endif
