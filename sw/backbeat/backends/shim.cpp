// Drives the Verilated CFU door through batches of commands: one call from Python per product, not
// one per cycle.

#include "VCfu.h"
#include "verilated.h"

#include <cstdint>
#include <memory>

namespace {

struct Simulator {
    VerilatedContext context;
    std::unique_ptr<VCfu> cfu;
    uint64_t cycles = 0;
    uint64_t random = 0;           // state of the stall generator; 0: never stall
    uint32_t stall_chance = 0;     // of 2^16, per cycle and direction

    void cycle() {
        cfu->clk = 1;
        cfu->eval();
        cfu->clk = 0;
        cfu->eval();
        ++cycles;
    }

    bool stall() {
        if (!stall_chance) return false;
        random ^= random << 13;    // xorshift64
        random ^= random >> 7;
        random ^= random << 17;
        return (random >> 40 & 0xFFFF) < stall_chance;
    }
};

}  // namespace

extern "C" {

// `count` commands with one function_id. Inputs are pairs of words, or null: then every command
// gets the pair (input_0, input_1). Responses are stored, or (null) or-ed into `status`.
struct Batch {
    uint32_t function_id;
    uint32_t count;
    uint32_t input_0, input_1;
    const uint32_t* inputs;
    uint32_t* outputs;
};

void* bb_open() {
    auto* simulator = new Simulator;
    simulator->cfu = std::make_unique<VCfu>(&simulator->context);
    VCfu& cfu = *simulator->cfu;
    cfu.cmd_valid = 0;
    cfu.rsp_ready = 1;
    cfu.reset = 1;
    cfu.clk = 0;
    cfu.eval();
    simulator->cycle();
    cfu.reset = 0;
    simulator->cycle();
    return simulator;
}

void bb_close(void* handle) {
    delete static_cast<Simulator*>(handle);
}

uint64_t bb_cycles(void* handle) {
    return static_cast<Simulator*>(handle)->cycles;
}

void bb_stall(void* handle, uint64_t seed, uint32_t chance) {
    auto& simulator = *static_cast<Simulator*>(handle);
    simulator.random = seed;
    simulator.stall_chance = chance;
}

// Runs all batches. Returns the or of all responses not stored; -1 if no response came for
// `watchdog` cycles, -2 if there was one too many.
int64_t bb_run(void* handle, const Batch* batches, uint64_t n_batches, uint64_t watchdog) {
    auto& simulator = *static_cast<Simulator*>(handle);
    VCfu& cfu = *simulator.cfu;
    const Batch *send = batches, *end = batches + n_batches, *receive = batches;
    uint32_t sent = 0, received = 0;
    uint64_t in_flight = 0, idle = 0;
    uint32_t status = 0;

    while (receive != end) {
        while (send != end && sent == send->count) { ++send; sent = 0; }
        while (receive != end && received == receive->count) { ++receive; received = 0; }
        if (receive == end) break;

        const bool offer = send != end && (cfu.cmd_valid || !simulator.stall());
        cfu.cmd_valid = offer;
        if (offer) {
            const uint32_t* words = send->inputs ? send->inputs + 2 * uint64_t(sent) : &send->input_0;
            cfu.cmd_payload_function_id = send->function_id;
            cfu.cmd_payload_inputs_0 = words[0];
            cfu.cmd_payload_inputs_1 = words[1];
        }
        cfu.rsp_ready = !simulator.stall();
        // Neither ready of the core depends on its inputs in the same cycle, and its outputs have
        // settled after the falling edge: no evaluation is needed to see what transfers.
        const bool accepted = offer && cfu.cmd_ready;
        const bool answered = cfu.rsp_valid && cfu.rsp_ready;
        const uint32_t answer = cfu.rsp_payload_outputs_0;
        simulator.cycle();

        if (answered) {
            if (!in_flight) return -2;
            --in_flight;
            if (receive->outputs) receive->outputs[received] = answer;
            else status |= answer;
            ++received;
            idle = 0;
        } else if (++idle > watchdog) {
            return -1;
        }
        if (accepted) {
            ++sent;
            ++in_flight;
            cfu.cmd_valid = 0;
        }
    }
    cfu.cmd_valid = 0;
    cfu.rsp_ready = 1;
    return status;
}

}  // extern "C"
