// A small SoC: VexRiscv with our CFU, whose memory port is on the same memory as the CPU's buses.
//
//   0x00000000  ROM, the firmware             0x40000000  main memory, also the core's
//   0x10000000  SRAM, data and stack          0xF0000000  console (write), 0xF0000004 finish (write)
//
// The first word of a bus access takes two cycles, each further one of a burst (a cache line) one. What
// the CPU moves from and to main memory the core's port waits for.

#include "VCfu.h"
#include "VVexRiscv.h"
#include "memory.hpp"
#include "verilated.h"

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr uint32_t ROM = 0, SRAM = 0x10000000, CONSOLE = 0xF0000000, FINISH = 0xF0000004;
constexpr int INCREMENTING = 2;     // Wishbone's CTI: another word of this burst follows

struct Soc {
    VerilatedContext context;
    std::unique_ptr<VVexRiscv> cpu;
    std::unique_ptr<VCfu> cfu;
    Memory memory;
    Stalls stalls;
    std::vector<uint8_t> rom, sram;
    std::string console;
    uint64_t cycles = 0;
    bool finished = false;
    uint32_t exit_code = 0;
    bool instruction_ack = false, data_ack = false;

    // Where that word is, or null.
    uint8_t* find(uint32_t address) {
        if (address - ROM < rom.size()) return rom.data() + (address - ROM);
        if (address - SRAM < sram.size()) return sram.data() + (address - SRAM);
        if (uint64_t(address - memory.base) < memory.size) return memory.data + (address - memory.base);
        return nullptr;
    }

    void share(uint32_t address) {
        if (uint64_t(address - memory.base) < memory.size) memory.share(4);
    }

    // The buses' inputs in this cycle.
    void present() {
        const uint32_t i = cpu->iBusWishbone_ADR << 2, d = cpu->dBusWishbone_ADR << 2;
        uint8_t* at = instruction_ack ? find(i) : nullptr;
        cpu->iBusWishbone_ACK = instruction_ack;
        cpu->iBusWishbone_ERR = instruction_ack && !at;      // this CPU takes no notice, and reads zeros
        if (at) std::memcpy(&cpu->iBusWishbone_DAT_MISO, at, 4);
        const bool device = d == CONSOLE || d == FINISH;
        at = data_ack && !device ? find(d) : nullptr;
        cpu->dBusWishbone_ACK = data_ack;
        cpu->dBusWishbone_ERR = data_ack && !at && !device;
        cpu->dBusWishbone_DAT_MISO = 0;
        if (at) std::memcpy(&cpu->dBusWishbone_DAT_MISO, at, 4);
    }

    // What happens on the buses in this cycle, and whether they are answered in the next.
    void transfer() {
        const bool i = cpu->iBusWishbone_CYC && cpu->iBusWishbone_STB;
        const bool d = cpu->dBusWishbone_CYC && cpu->dBusWishbone_STB;
        if (instruction_ack) share(cpu->iBusWishbone_ADR << 2);
        if (data_ack) {
            const uint32_t address = cpu->dBusWishbone_ADR << 2, value = cpu->dBusWishbone_DAT_MOSI;
            share(address);
            if (cpu->dBusWishbone_WE) {
                if (address == CONSOLE) console += char(value);
                else if (address == FINISH) { finished = true; exit_code = value; }
                else if (uint8_t* at = address - ROM < rom.size() ? nullptr : find(address))
                    for (int b = 0; b < 4; ++b)
                        if (cpu->dBusWishbone_SEL >> b & 1) at[b] = uint8_t(value >> 8 * b);
            }
        }
        instruction_ack = i && (!instruction_ack || cpu->iBusWishbone_CTI == INCREMENTING);
        data_ack = d && (!data_ack || cpu->dBusWishbone_CTI == INCREMENTING);
    }

    // False if the core broke a rule of the memory's bus.
    bool cycle() {
        present();
        cpu->CfuPlugin_bus_cmd_ready = cfu->cmd_ready;
        cpu->CfuPlugin_bus_rsp_valid = cfu->rsp_valid;
        cpu->CfuPlugin_bus_rsp_payload_outputs_0 = cfu->rsp_payload_outputs_0;
        cpu->clk = 0;
        cpu->eval();

        // Neither of these outputs of the core depends on its inputs in the same cycle.
        cfu->cmd_valid = cpu->CfuPlugin_bus_cmd_valid;
        cfu->cmd_payload_function_id = cpu->CfuPlugin_bus_cmd_payload_function_id;
        cfu->cmd_payload_inputs_0 = cpu->CfuPlugin_bus_cmd_payload_inputs_0;
        cfu->cmd_payload_inputs_1 = cpu->CfuPlugin_bus_cmd_payload_inputs_1;
        cfu->rsp_ready = cpu->CfuPlugin_bus_rsp_ready;
        memory.drive(*cfu, stalls);
        cfu->clk = 0;
        cfu->eval();

        transfer();
        const bool legal = memory.transfer(*cfu);
        cpu->clk = 1;
        cpu->eval();
        cfu->clk = 1;
        cfu->eval();
        ++cycles;
        return legal;
    }
};

}  // namespace

extern "C" {

// `firmware` becomes the beginning of the ROM; `data` is main memory, `size` bytes at `base`.
void* soc_open(const uint8_t* firmware, uint64_t firmware_size, uint64_t rom_size, uint64_t sram_size,
               uint8_t* data, uint64_t size, uint32_t base, uint32_t bandwidth, uint32_t latency,
               uint32_t refresh_interval, uint32_t refresh_cycles) {
    auto* soc = new Soc;
    soc->cpu = std::make_unique<VVexRiscv>(&soc->context, "cpu");
    soc->cfu = std::make_unique<VCfu>(&soc->context, "cfu");
    soc->rom.assign(rom_size, 0);
    soc->sram.assign(sram_size, 0);
    std::memcpy(soc->rom.data(), firmware, std::min(firmware_size, rom_size));
    soc->memory.set(data, size, base, bandwidth, latency, refresh_interval, refresh_cycles);
    soc->cpu->externalResetVector = ROM;
    soc->cpu->timerInterrupt = soc->cpu->softwareInterrupt = 0;
    soc->cpu->externalInterruptArray = 0;
    soc->cpu->reset = soc->cfu->reset = 1;
    for (int n = 0; n < 4; ++n) soc->cycle();
    soc->cpu->reset = soc->cfu->reset = 0;
    return soc;
}

void soc_close(void* handle) {
    auto* soc = static_cast<Soc*>(handle);
    Verilated::threadContextp(&soc->context);   // where Verilator looks for the scopes that it erases
    delete soc;
}

uint64_t soc_cycles(void* handle) { return static_cast<Soc*>(handle)->cycles; }

// Holds back each channel of the core's memory port with `chance` / 2^16 per cycle.
void soc_stall(void* handle, uint64_t seed, uint32_t chance) {
    static_cast<Soc*>(handle)->stalls = {seed, chance};
}

const char* soc_broken(void* handle) { return static_cast<Soc*>(handle)->memory.broken; }

// What has been printed: copies up to `size` bytes from `begin` on, returns how many there are in all.
uint64_t soc_console(void* handle, char* out, uint64_t begin, uint64_t size) {
    const std::string& text = static_cast<Soc*>(handle)->console;
    if (begin < text.size()) std::memcpy(out, text.data() + begin, std::min(size, text.size() - begin));
    return text.size();
}

// Runs for at most so many cycles. Returns the exit code, -1 if the firmware has not finished, -3 if
// the core broke a rule of the memory's bus.
int64_t soc_run(void* handle, uint64_t limit) {
    auto& soc = *static_cast<Soc*>(handle);
    for (uint64_t n = 0; n < limit && !soc.finished; ++n)
        if (!soc.cycle()) return -3;
    return soc.finished ? int64_t(soc.exit_code) : -1;
}

}  // extern "C"
