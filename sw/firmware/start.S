/* Where the CPU begins: a stack, zeros, main(); what main() returns is the exit code. */
    .section .start, "ax"
    .globl _start
_start:
    la sp, bb_stack_top
    la t0, trap
    csrw mtvec, t0
    la a0, bb_data_start        /* initialised data may have been linked elsewhere than it lies */
    la a1, bb_data_end
    la a2, bb_data_load
    beq a0, a2, 2f
1:  bgeu a0, a1, 2f
    lw t0, 0(a2)
    sw t0, 0(a0)
    addi a0, a0, 4
    addi a2, a2, 4
    j 1b
2:  la a0, bb_bss_start
    la a1, bb_bss_end
3:  bgeu a0, a1, 4f
    sw zero, 0(a0)
    addi a0, a0, 4
    j 3b
4:  call main
    call bb_finish

    .align 2
trap:
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    la sp, bb_stack_top
    call bb_trap
