// Drives the Verilated CFU door through batches of commands: one call from Python per product, not
// one per cycle. A core with a memory port (BB_MEMORY) has its memory beside it. BB_TRACE: a
// library of its own, slower, which can write a waveform.

#include "VCfu.h"
#include "memory.hpp"
#include "verilated.h"
#ifdef BB_TRACE
#include "verilated_vcd_c.h"
#endif

#include <cstdint>
#include <memory>

namespace {

struct Simulator {
    VerilatedContext context;
    std::unique_ptr<VCfu> cfu;
    uint64_t cycles = 0;
    uint64_t until = UINT64_MAX;   // bb_run() breaks off at this cycle
    Stalls stalls;
    Memory memory;
#ifdef BB_TRACE
    std::unique_ptr<VerilatedVcdC> waveform;
#endif

    // Half a cycle.
    void level(bool clk) {
        cfu->clk = clk;
        cfu->eval();
#ifdef BB_TRACE
        if (waveform) waveform->dump(2 * cycles + clk);
#endif
    }

    // The inputs of this cycle are set: lets what depends on them settle.
    void settle() {
        memory.drive(*cfu, stalls);
        level(0);
    }

    // Ends the cycle. False if the core broke a rule of the memory's bus in it.
    bool edge() {
        const bool legal = memory.transfer(*cfu);
        level(1);
        ++cycles;
        return legal;
    }

    // The reset pin, for so many cycles, and one without.
    void reset(uint64_t count) {
        cfu->cmd_valid = 0;
        cfu->rsp_ready = 1;
        memory.reset();
        for (uint64_t left = count + 1; left--;) {
            cfu->reset = left > 0;
            level(0);
            level(1);
            ++cycles;
        }
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
#ifdef BB_TRACE
    simulator->context.traceEverOn(true);
#endif
    simulator->cfu = std::make_unique<VCfu>(&simulator->context);
    simulator->reset(1);
    return simulator;
}

void bb_close(void* handle) {
    delete static_cast<Simulator*>(handle);
}

uint64_t bb_cycles(void* handle) {
    return static_cast<Simulator*>(handle)->cycles;
}

// Holds back commands, responses and all channels of the memory, each with `chance` / 2^16 per cycle.
void bb_stall(void* handle, uint64_t seed, uint32_t chance) {
    static_cast<Simulator*>(handle)->stalls = {seed, chance};
}

// Pulls the reset pin of the core and of the memory's bus for so many cycles.
void bb_reset(void* handle, uint64_t cycles) {
    static_cast<Simulator*>(handle)->reset(cycles);
}

// From now on bb_run() breaks off, with -4, when bb_cycles() is `cycle`.
void bb_until(void* handle, uint64_t cycle) {
    static_cast<Simulator*>(handle)->until = cycle;
}

#ifdef BB_TRACE
// From now on every signal goes into a VCD file of that name, a cycle being two units of time, the
// second of them with a high clock. Null: complete the file. False if it cannot be written.
bool bb_trace(void* handle, const char* path) {
    auto& simulator = *static_cast<Simulator*>(handle);
    if (simulator.waveform) simulator.waveform->close();
    simulator.waveform.reset();
    if (!path) return true;
    auto waveform = std::make_unique<VerilatedVcdC>();
    simulator.cfu->trace(waveform.get(), 99);
    waveform->open(path);
    if (!waveform->isOpen()) return false;
    simulator.waveform = std::move(waveform);
    return true;
}
#endif

#ifdef BB_MEMORY
// What the core finds at addresses `base` to `base + size - 1`; it answers everything else with
// DECERR. `bandwidth` is in 2^-16 bytes per cycle. `latency` cycles pass from a request to its first
// word, and from the last word written to its acknowledgement. Of each `refresh_interval` cycles
// nothing moves in `refresh_cycles`.
void bb_memory(void* handle, uint8_t* data, uint64_t size, uint32_t base, uint32_t bandwidth,
               uint32_t latency, uint32_t refresh_interval, uint32_t refresh_cycles) {
    static_cast<Simulator*>(handle)->memory.set(data, size, base, bandwidth, latency, refresh_interval,
                                                refresh_cycles);
}

// Reads and/or writes of words that touch `begin` to `end - 1` are answered with `response`.
void bb_fault(void* handle, uint64_t begin, uint64_t end, uint32_t response, bool reads, bool writes) {
    Memory& memory = static_cast<Simulator*>(handle)->memory;
    memory.fault_begin = begin;
    memory.fault_end = end;
    memory.fault_response = response;
    memory.fault_reads = reads;
    memory.fault_writes = writes;
}

// Transfer `number`, from now on, of a channel (0...4: AR, R, AW, W, B; 5: none) is answered with
// `response`; if that is 0, neither it nor what follows on that channel comes.
void bb_strike(void* handle, uint32_t channel, uint64_t number, uint32_t response) {
    static_cast<Simulator*>(handle)->memory.set_strike(Memory::Channel(channel), number, response);
}

// Whether a response has been struck; the addresses of the word and of its burst.
bool bb_struck(void* handle, uint32_t* word, uint32_t* burst) {
    const auto& strike = static_cast<Simulator*>(handle)->memory.strike;
    *word = strike.word;
    *burst = strike.burst;
    return strike.met;
}

// Transfers on a channel since bb_strike().
uint64_t bb_moved(void* handle, uint32_t channel) {
    return static_cast<Simulator*>(handle)->memory.moved[channel];
}
#endif

// After bb_run() has returned -3: which rule.
const char* bb_broken(void* handle) {
    return static_cast<Simulator*>(handle)->memory.broken;
}

// Lets so many cycles pass without a command. Returns 0, or what bb_run() would.
int64_t bb_wait(void* handle, uint64_t cycles) {
    auto& simulator = *static_cast<Simulator*>(handle);
    while (cycles--) {
        simulator.settle();
        if (simulator.cfu->rsp_valid) return -2;
        if (!simulator.edge()) return -3;
    }
    return 0;
}

// Runs all batches. Returns the or of all responses not stored; -1 if no response came for
// `watchdog` cycles, -2 if there was one too many, -3 if the core broke a rule of the memory's bus, -4
// if it broke off.
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
        if (simulator.cycles == simulator.until) {
            cfu.cmd_valid = 0;
            return -4;
        }

        const bool offer = send != end && (cfu.cmd_valid || !simulator.stalls());
        cfu.cmd_valid = offer;
        if (offer) {
            const uint32_t* words = send->inputs ? send->inputs + 2 * uint64_t(sent) : &send->input_0;
            cfu.cmd_payload_function_id = send->function_id;
            cfu.cmd_payload_inputs_0 = words[0];
            cfu.cmd_payload_inputs_1 = words[1];
        }
        cfu.rsp_ready = !simulator.stalls();
        simulator.settle();
        const bool accepted = offer && cfu.cmd_ready;
        const bool answered = cfu.rsp_valid && cfu.rsp_ready;
        const uint32_t answer = cfu.rsp_payload_outputs_0;
        if (!simulator.edge()) return -3;

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
