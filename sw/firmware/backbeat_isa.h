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
#define BB_PORT_DESCRIPTOR       3  /* a descriptor (PUSH only), two words each; START forgets them */

#define BB_GET_ID                0  /* `version`, `rows`, `columns` of the array, `identity` 0xBB */
#define BB_GET_SIZE              1  /* `depth` in bytes per lane and half, `tiles` per half of the accumulators */
#define BB_GET_STATUS            2  /* `loading`, `running`, `reading` */
#define BB_GET_ERROR             3  /* first error since reset, see Errors */
#define BB_GET_ERROR_VALUE       4  /* the value that caused it */
#define BB_GET_MAX_ABS           5  /* largest accumulator magnitude read since it was cleared */
#define BB_GET_CYCLES            6  /* clock cycles since reset, modulo 2^32 */
#define BB_GET_BUSY              7  /* of these, cycles in which a run was in progress */
#define BB_GET_FED               8  /* of these, cycles in which the array was fed a step of K */
#define BB_GET_COMPLETED         9  /* descriptors completed since reset, their results in memory */
#define BB_GET_FENCE             10  /* waits, at most 65,536 cycles, until no descriptor is in progress: 1 if so */
#define BB_GET_FAILED            11  /* address of the descriptor that failed (0: it was pushed) */
#define BB_GET_READ_BEATS        12  /* words of 8 bytes read from memory */
#define BB_GET_WRITE_BEATS       13  /* words of 8 bytes (or parts of one) written to memory */
#define BB_GET_LOAD_BUSY         14  /* cycles in which a panel was being loaded */
#define BB_GET_LOAD_WAIT         15  /* of these, cycles without a word from memory */
#define BB_GET_RUN_WAIT          16  /* cycles in which a run waited for its panels or for room for its sums, and none was in progress */
#define BB_GET_STORE_BUSY        17  /* cycles in which a product was being stored */
#define BB_GET_STORE_WAIT        18  /* of these, cycles in which a word waited for the memory */

#define BB_SET_SEED              0  /* seed of stochastic rounding */
#define BB_SET_PITCH             1  /* columns of C: the element index grows by it from row to row */
#define BB_SET_CLIP              2  /* `zero_point`, `low`, `high` (signed bytes) of the requantised result */
#define BB_SET_SHIFT             3  /* `shift` 0...62 of the table entries pushed from now on */
#define BB_SET_TABLE             4  /* place of the next table entry, which the ones after it follow */
#define BB_SET_MAX_ABS           5  /* clears the maximum */
#define BB_SET_DOORBELL          6  /* carries out the chain of descriptors that begins at this address */
#define BB_SET_START             7  /* carries out the one descriptor that has been pushed */

#define BB_ERROR_NONE            0  /* no error */
#define BB_ERROR_ILLEGAL         1  /* no such operation, register or port (value: function_id) */
#define BB_ERROR_SIZE            2  /* a size beyond the buffers, or zero (value: the input word) */
#define BB_ERROR_NOT_LOADED      3  /* RUN before a panel was complete (value: input 0) */
#define BB_ERROR_DEPTH           4  /* the panels differ in depth, or in extent from the sums to add to (value: input 0) */
#define BB_ERROR_NO_LOAD         5  /* PUSH without a panel that wants words (value: function_id) */
#define BB_ERROR_NO_RESULT       6  /* READOUT of a half that holds no product (value: input 0), or READ beyond its last word (value: function_id) */
#define BB_ERROR_OPERAND         7  /* -128 on port A (value: words pushed before it in this panel) */
#define BB_ERROR_BUSY            8  /* RUN or READOUT while a product is still being read, or DOORBELL, START or a pushed descriptor while one is in progress (value: input 0) */
#define BB_ERROR_ALIGNMENT       9  /* an address or pitch in a descriptor is no multiple of 8 (value: it) */
#define BB_ERROR_DIMENSION       10  /* M, N, K or a size of the gathered tensor is zero or too large (value: it) */
#define BB_ERROR_PITCH           11  /* a pitch is smaller than the row (value: the pitch) */
#define BB_ERROR_PLAN            12  /* panels or chunk do not fit the buffers, or split words (value: the word) */
#define BB_ERROR_UNKNOWN         13  /* no such op in a descriptor (value: its first word) */
#define BB_ERROR_BUS_READ        14  /* the memory answered a read with an error (value: address of the burst) */
#define BB_ERROR_BUS_WRITE       15  /* the memory answered a write with an error (value: address of the first write not acknowledged) */
#define BB_ERROR_TIMEOUT         16  /* the memory was silent for 65,536 cycles (value: 0) */

#define BB_DESCRIPTOR_NONE       0  /* nothing: only its `fence`, `next` and completion count */
#define BB_DESCRIPTOR_GEMM       1  /* C = op(A) op(B) */

#define BB_ERROR_NAMES {"NONE", "ILLEGAL", "SIZE", "NOT_LOADED", "DEPTH", "NO_LOAD", "NO_RESULT", "OPERAND", "BUSY", "ALIGNMENT", "DIMENSION", "PITCH", "PLAN", "UNKNOWN", "BUS_READ", "BUS_WRITE", "TIMEOUT"}

#define BB_IDENTITY              0xbb
#define BB_MAX_RUN               512
#define BB_VERSION               2

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
#define BB_SIZE_TILES(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_SIZE_TILES_OF(w) (((uint32_t)(w) >> 16) & 0xffu)
#define BB_SIZE_BANKS(x) (((uint32_t)(x) & 0x7fu) << 24)
#define BB_SIZE_BANKS_OF(w) (((uint32_t)(w) >> 24) & 0x7fu)
#define BB_SIZE_MEMORY(x) (((uint32_t)(x) & 0x1u) << 31)
#define BB_SIZE_MEMORY_OF(w) (((uint32_t)(w) >> 31) & 0x1u)

#define BB_STATUS_LOADING(x) (((uint32_t)(x) & 0x1u) << 0)
#define BB_STATUS_LOADING_OF(w) (((uint32_t)(w) >> 0) & 0x1u)
#define BB_STATUS_RUNNING(x) (((uint32_t)(x) & 0x1u) << 1)
#define BB_STATUS_RUNNING_OF(w) (((uint32_t)(w) >> 1) & 0x1u)
#define BB_STATUS_READING(x) (((uint32_t)(x) & 0x1u) << 2)
#define BB_STATUS_READING_OF(w) (((uint32_t)(w) >> 2) & 0x1u)
#define BB_STATUS_MOVING(x) (((uint32_t)(x) & 0x1u) << 3)
#define BB_STATUS_MOVING_OF(w) (((uint32_t)(w) >> 3) & 0x1u)

#define BB_TABLE_TILE(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_TABLE_TILE_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_TABLE_LANE(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_TABLE_LANE_OF(w) (((uint32_t)(w) >> 8) & 0xffu)

#define BB_CLIP_ZERO_POINT(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_CLIP_ZERO_POINT_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_CLIP_LOW(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_CLIP_LOW_OF(w) (((uint32_t)(w) >> 8) & 0xffu)
#define BB_CLIP_HIGH(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_CLIP_HIGH_OF(w) (((uint32_t)(w) >> 16) & 0xffu)

#define BB_DESCRIPTOR_WORDS      48
#define BB_FETCHED_WORDS         34
#define BB_DESCRIPTOR_OP_WORD 0
#define BB_DESCRIPTOR_OP(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_DESCRIPTOR_OP_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_DESCRIPTOR_A_ACROSS_WORD 0
#define BB_DESCRIPTOR_A_ACROSS(x) (((uint32_t)(x) & 0x1u) << 8)
#define BB_DESCRIPTOR_A_ACROSS_OF(w) (((uint32_t)(w) >> 8) & 0x1u)
#define BB_DESCRIPTOR_B_ACROSS_WORD 0
#define BB_DESCRIPTOR_B_ACROSS(x) (((uint32_t)(x) & 0x1u) << 9)
#define BB_DESCRIPTOR_B_ACROSS_OF(w) (((uint32_t)(w) >> 9) & 0x1u)
#define BB_DESCRIPTOR_REQUANTISE_WORD 0
#define BB_DESCRIPTOR_REQUANTISE(x) (((uint32_t)(x) & 0x1u) << 10)
#define BB_DESCRIPTOR_REQUANTISE_OF(w) (((uint32_t)(w) >> 10) & 0x1u)
#define BB_DESCRIPTOR_STOCHASTIC_WORD 0
#define BB_DESCRIPTOR_STOCHASTIC(x) (((uint32_t)(x) & 0x1u) << 11)
#define BB_DESCRIPTOR_STOCHASTIC_OF(w) (((uint32_t)(w) >> 11) & 0x1u)
#define BB_DESCRIPTOR_SUMS_WORD 0
#define BB_DESCRIPTOR_SUMS(x) (((uint32_t)(x) & 0x1u) << 12)
#define BB_DESCRIPTOR_SUMS_OF(w) (((uint32_t)(w) >> 12) & 0x1u)
#define BB_DESCRIPTOR_COLUMNS_OUTER_WORD 0
#define BB_DESCRIPTOR_COLUMNS_OUTER(x) (((uint32_t)(x) & 0x1u) << 13)
#define BB_DESCRIPTOR_COLUMNS_OUTER_OF(w) (((uint32_t)(w) >> 13) & 0x1u)
#define BB_DESCRIPTOR_FENCE_WORD 0
#define BB_DESCRIPTOR_FENCE(x) (((uint32_t)(x) & 0x1u) << 14)
#define BB_DESCRIPTOR_FENCE_OF(w) (((uint32_t)(w) >> 14) & 0x1u)
#define BB_DESCRIPTOR_GATHER_A_WORD 0
#define BB_DESCRIPTOR_GATHER_A(x) (((uint32_t)(x) & 0x1u) << 15)
#define BB_DESCRIPTOR_GATHER_A_OF(w) (((uint32_t)(w) >> 15) & 0x1u)
#define BB_DESCRIPTOR_GATHER_B_WORD 0
#define BB_DESCRIPTOR_GATHER_B(x) (((uint32_t)(x) & 0x1u) << 16)
#define BB_DESCRIPTOR_GATHER_B_OF(w) (((uint32_t)(w) >> 16) & 0x1u)
#define BB_DESCRIPTOR_LAST_WORD 0
#define BB_DESCRIPTOR_LAST(x) (((uint32_t)(x) & 0x1u) << 17)
#define BB_DESCRIPTOR_LAST_OF(w) (((uint32_t)(w) >> 17) & 0x1u)
#define BB_DESCRIPTOR_NEXT_WORD 1
#define BB_DESCRIPTOR_NEXT(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_NEXT_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_A_WORD 2
#define BB_DESCRIPTOR_A(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_A_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_B_WORD 3
#define BB_DESCRIPTOR_B(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_B_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_C_WORD 4
#define BB_DESCRIPTOR_C(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_C_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_TABLE_WORD 5
#define BB_DESCRIPTOR_TABLE(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_TABLE_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_SUMS_ADDRESS_WORD 6
#define BB_DESCRIPTOR_SUMS_ADDRESS(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_SUMS_ADDRESS_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_A_PITCH_WORD 7
#define BB_DESCRIPTOR_A_PITCH(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_A_PITCH_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_B_PITCH_WORD 8
#define BB_DESCRIPTOR_B_PITCH(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_B_PITCH_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_C_PITCH_WORD 9
#define BB_DESCRIPTOR_C_PITCH(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_C_PITCH_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_M_WORD 10
#define BB_DESCRIPTOR_M(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_M_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_N_WORD 11
#define BB_DESCRIPTOR_N(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_N_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_K_WORD 12
#define BB_DESCRIPTOR_K(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_K_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_A_PANEL_WORD 13
#define BB_DESCRIPTOR_A_PANEL(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_DESCRIPTOR_A_PANEL_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_DESCRIPTOR_B_PANEL_WORD 13
#define BB_DESCRIPTOR_B_PANEL(x) (((uint32_t)(x) & 0xffffu) << 16)
#define BB_DESCRIPTOR_B_PANEL_OF(w) (((uint32_t)(w) >> 16) & 0xffffu)
#define BB_DESCRIPTOR_CHUNK_WORD 14
#define BB_DESCRIPTOR_CHUNK(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_DESCRIPTOR_CHUNK_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_DESCRIPTOR_LAST_CHUNK_WORD 14
#define BB_DESCRIPTOR_LAST_CHUNK(x) (((uint32_t)(x) & 0xffffu) << 16)
#define BB_DESCRIPTOR_LAST_CHUNK_OF(w) (((uint32_t)(w) >> 16) & 0xffffu)
#define BB_DESCRIPTOR_SEED_WORD 15
#define BB_DESCRIPTOR_SEED(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_SEED_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_ZERO_POINT_WORD 16
#define BB_DESCRIPTOR_ZERO_POINT(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_DESCRIPTOR_ZERO_POINT_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_DESCRIPTOR_LOW_WORD 16
#define BB_DESCRIPTOR_LOW(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_DESCRIPTOR_LOW_OF(w) (((uint32_t)(w) >> 8) & 0xffu)
#define BB_DESCRIPTOR_HIGH_WORD 16
#define BB_DESCRIPTOR_HIGH(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_DESCRIPTOR_HIGH_OF(w) (((uint32_t)(w) >> 16) & 0xffu)
#define BB_DESCRIPTOR_B_GROUP_WORD 17
#define BB_DESCRIPTOR_B_GROUP(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_B_GROUP_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_B_WRAP_WORD 18
#define BB_DESCRIPTOR_B_WRAP(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_B_WRAP_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_PIXEL_WORD 20
#define BB_DESCRIPTOR_PIXEL(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_DESCRIPTOR_PIXEL_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_DESCRIPTOR_TAPS_X_WORD 20
#define BB_DESCRIPTOR_TAPS_X(x) (((uint32_t)(x) & 0xffffu) << 16)
#define BB_DESCRIPTOR_TAPS_X_OF(w) (((uint32_t)(w) >> 16) & 0xffffu)
#define BB_DESCRIPTOR_GRID_Y_WORD 21
#define BB_DESCRIPTOR_GRID_Y(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_DESCRIPTOR_GRID_Y_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_DESCRIPTOR_GRID_X_WORD 21
#define BB_DESCRIPTOR_GRID_X(x) (((uint32_t)(x) & 0xffffu) << 16)
#define BB_DESCRIPTOR_GRID_X_OF(w) (((uint32_t)(w) >> 16) & 0xffffu)
#define BB_DESCRIPTOR_LIMIT_Y_WORD 22
#define BB_DESCRIPTOR_LIMIT_Y(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_DESCRIPTOR_LIMIT_Y_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_DESCRIPTOR_LIMIT_X_WORD 22
#define BB_DESCRIPTOR_LIMIT_X(x) (((uint32_t)(x) & 0xffffu) << 16)
#define BB_DESCRIPTOR_LIMIT_X_OF(w) (((uint32_t)(w) >> 16) & 0xffffu)
#define BB_DESCRIPTOR_ORIGIN_Y_WORD 23
#define BB_DESCRIPTOR_ORIGIN_Y(x) (((uint32_t)(x) & 0xffffu) << 0)
#define BB_DESCRIPTOR_ORIGIN_Y_OF(w) (((uint32_t)(w) >> 0) & 0xffffu)
#define BB_DESCRIPTOR_ORIGIN_X_WORD 23
#define BB_DESCRIPTOR_ORIGIN_X(x) (((uint32_t)(x) & 0xffffu) << 16)
#define BB_DESCRIPTOR_ORIGIN_X_OF(w) (((uint32_t)(w) >> 16) & 0xffffu)
#define BB_DESCRIPTOR_STEP_Y_WORD 24
#define BB_DESCRIPTOR_STEP_Y(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_DESCRIPTOR_STEP_Y_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_DESCRIPTOR_STEP_X_WORD 24
#define BB_DESCRIPTOR_STEP_X(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_DESCRIPTOR_STEP_X_OF(w) (((uint32_t)(w) >> 8) & 0xffu)
#define BB_DESCRIPTOR_TAP_Y_WORD 24
#define BB_DESCRIPTOR_TAP_Y(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_DESCRIPTOR_TAP_Y_OF(w) (((uint32_t)(w) >> 16) & 0xffu)
#define BB_DESCRIPTOR_TAP_X_WORD 24
#define BB_DESCRIPTOR_TAP_X(x) (((uint32_t)(x) & 0xffu) << 24)
#define BB_DESCRIPTOR_TAP_X_OF(w) (((uint32_t)(w) >> 24) & 0xffu)
#define BB_DESCRIPTOR_STEP_Y_REST_WORD 25
#define BB_DESCRIPTOR_STEP_Y_REST(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_DESCRIPTOR_STEP_Y_REST_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_DESCRIPTOR_STEP_X_REST_WORD 25
#define BB_DESCRIPTOR_STEP_X_REST(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_DESCRIPTOR_STEP_X_REST_OF(w) (((uint32_t)(w) >> 8) & 0xffu)
#define BB_DESCRIPTOR_TAP_Y_REST_WORD 25
#define BB_DESCRIPTOR_TAP_Y_REST(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_DESCRIPTOR_TAP_Y_REST_OF(w) (((uint32_t)(w) >> 16) & 0xffu)
#define BB_DESCRIPTOR_TAP_X_REST_WORD 25
#define BB_DESCRIPTOR_TAP_X_REST(x) (((uint32_t)(x) & 0xffu) << 24)
#define BB_DESCRIPTOR_TAP_X_REST_OF(w) (((uint32_t)(w) >> 24) & 0xffu)
#define BB_DESCRIPTOR_INSERT_Y_WORD 26
#define BB_DESCRIPTOR_INSERT_Y(x) (((uint32_t)(x) & 0xffu) << 0)
#define BB_DESCRIPTOR_INSERT_Y_OF(w) (((uint32_t)(w) >> 0) & 0xffu)
#define BB_DESCRIPTOR_INSERT_X_WORD 26
#define BB_DESCRIPTOR_INSERT_X(x) (((uint32_t)(x) & 0xffu) << 8)
#define BB_DESCRIPTOR_INSERT_X_OF(w) (((uint32_t)(w) >> 8) & 0xffu)
#define BB_DESCRIPTOR_ORIGIN_Y_REST_WORD 26
#define BB_DESCRIPTOR_ORIGIN_Y_REST(x) (((uint32_t)(x) & 0xffu) << 16)
#define BB_DESCRIPTOR_ORIGIN_Y_REST_OF(w) (((uint32_t)(w) >> 16) & 0xffu)
#define BB_DESCRIPTOR_ORIGIN_X_REST_WORD 26
#define BB_DESCRIPTOR_ORIGIN_X_REST(x) (((uint32_t)(x) & 0xffu) << 24)
#define BB_DESCRIPTOR_ORIGIN_X_REST_OF(w) (((uint32_t)(w) >> 24) & 0xffu)
#define BB_DESCRIPTOR_ROW_PITCH_WORD 27
#define BB_DESCRIPTOR_ROW_PITCH(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_ROW_PITCH_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_IMAGE_PITCH_WORD 28
#define BB_DESCRIPTOR_IMAGE_PITCH(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_IMAGE_PITCH_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_STEP_Y_BYTES_WORD 29
#define BB_DESCRIPTOR_STEP_Y_BYTES(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_STEP_Y_BYTES_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_STEP_X_BYTES_WORD 30
#define BB_DESCRIPTOR_STEP_X_BYTES(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_STEP_X_BYTES_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_TAP_Y_BYTES_WORD 31
#define BB_DESCRIPTOR_TAP_Y_BYTES(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_TAP_Y_BYTES_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_TAP_X_BYTES_WORD 32
#define BB_DESCRIPTOR_TAP_X_BYTES(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_TAP_X_BYTES_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_DONE_WORD 44
#define BB_DESCRIPTOR_DONE(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_DONE_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_MAX_ABS_WORD 45
#define BB_DESCRIPTOR_MAX_ABS(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_MAX_ABS_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_BEGUN_WORD 46
#define BB_DESCRIPTOR_BEGUN(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_BEGUN_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)
#define BB_DESCRIPTOR_ENDED_WORD 47
#define BB_DESCRIPTOR_ENDED(x) (((uint32_t)(x) & 0xffffffffu) << 0)
#define BB_DESCRIPTOR_ENDED_OF(w) (((uint32_t)(w) >> 0) & 0xffffffffu)

/* Uniform numbers, a function of seed and element index alone: the fraction of stochastic
 * rounding. */
static inline uint32_t bb_random_bits(uint32_t seed, uint32_t index)
{
    uint32_t a = index ^ seed;
    a = (a + 0x7ed55d16u) + (a << 12);
    a = (a ^ 0xc761c23cu) ^ (a >> 19);
    a = (a + 0x165667b1u) + (a << 5);
    a += seed;
    a = (a + 0xd3a2646cu) ^ (a << 9);
    a = (a + 0xfd7046c5u) + (a << 3);
    a = (a ^ 0xb55a4f09u) ^ (a >> 16);
    a = (a + 0x27d4eb2fu) + (a << 7);
    a = (a ^ 0x9e3779b9u) ^ (a >> 11);
    a = (a + 0x85ebca6bu) + (a << 14);
    return a;
}

#endif
