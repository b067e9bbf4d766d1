// A memory behind the core's AXI4 port: bandwidth, latency and refresh of a DRAM; and the bus's rules.
//
// Reads and writes share the bandwidth, take turns where both want it, and are answered in order. What
// is written can be read back only once the write has been acknowledged: a core that does not wait for
// that reads old data here, as it might behind any controller.

#pragma once

#include "VCfu.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>

// Random pauses, each with the same chance per cycle.
struct Stalls {
    uint64_t random = 0;
    uint32_t chance = 0;           // of 2^16

    bool operator()() {
        if (!chance) return false;
        random ^= random << 13;    // xorshift64
        random ^= random >> 7;
        random ^= random << 17;
        return (random >> 40 & 0xFFFF) < chance;
    }
};

// First in, first out; the user looks at `full` before it pushes.
template <class T, uint32_t SIZE>
struct Ring {
    static_assert((SIZE & (SIZE - 1)) == 0, "a power of two");
    T items[SIZE];
    uint32_t head = 0, size = 0;

    bool empty() const { return !size; }
    bool full() const { return size == SIZE; }
    T& front() { return items[head]; }
    void push(const T& item) { items[head + size++ & SIZE - 1] = item; }
    void pop() { head = --size ? head + 1 & SIZE - 1 : 0; }
};

#ifndef BB_MEMORY

struct Memory {
    char broken[1] = "";
    void drive(VCfu&, Stalls&) {}
    bool transfer(VCfu&) { return true; }
    void reset() {}
};

#else

class Memory {
public:
    // Settings, see bb_memory() and bb_fault() of shim.cpp.
    uint8_t* data = nullptr;
    uint64_t size = 0;
    uint32_t base = 0;
    uint32_t bandwidth = 8 * BYTE, latency = 25, refresh_interval = 780, refresh_cycles = 39;
    uint64_t fault_begin = 0, fault_end = 0;
    uint32_t fault_response = 0;
    bool fault_reads = false, fault_writes = false;

    // What happens to one transfer: number `number` of a channel, counted from when this was set.
    enum Channel : uint8_t { AR, R, AW, W, B, NONE };
    struct Strike {
        Channel channel = NONE;
        uint8_t response = 0;          // that it is answered with; 0: neither it nor what follows comes
        uint64_t number = 0;
        bool met = false;
        uint32_t word = 0, burst = 0;  // what it hit: the word's address, and its burst's
    } strike;
    uint64_t moved[NONE] = {};         // transfers of each channel since then

    static constexpr uint32_t BYTE = 1 << 16;      // unit of `bandwidth`: bytes per cycle
    char broken[160] = "";                         // the first rule that the core broke

    // What is in it and how it is, see bb_memory() of shim.cpp.
    void set(uint8_t* image, uint64_t bytes, uint32_t first, uint32_t bytes_per_cycle, uint32_t cycles,
             uint32_t interval, uint32_t pause) {
        data = image;
        size = bytes;
        base = first;
        bandwidth = bytes_per_cycle;
        latency = cycles;
        refresh_interval = interval;
        refresh_cycles = pause;
    }

    // Somebody else uses the memory for so many bytes: the core waits so much longer.
    void share(uint32_t bytes) { debt += bytes * BYTE; }

    void set_strike(Channel channel, uint64_t number, uint8_t response) {
        strike = {channel, response, number};
        std::memset(moved, 0, sizeof moved);
    }

    // The bus is reset with the core: all that is under way is gone. What has been set stays.
    void reset() {
        reads = {}, writes = {}, write_data = {}, acknowledgements = {};
        pending.head = pending.size = 0;
        write_beats = 0;
        write_response = OKAY;
        read_valid = acknowledge_valid = false;
        held_ar = {}, held_aw = {}, held_w = {};
    }

    // The port's inputs in this cycle; they depend on no output in the same cycle.
    void drive(VCfu& cfu, Stalls& stalls) {
        grant(stalls);
        cfu.m_axi_arready = !reads.full() && !stalls() && !silent(AR);
        cfu.m_axi_awready = writes.size + acknowledgements.size < QUEUE && !stalls() && !silent(AW);
        cfu.m_axi_wready = !write_data.full() && !stalls() && !silent(W, write_data.size);
        cfu.m_axi_rvalid = read_valid;
        cfu.m_axi_rid = 0;
        cfu.m_axi_rdata = read_data;
        cfu.m_axi_rresp = read_response;
        cfu.m_axi_rlast = read_last;
        cfu.m_axi_bvalid = acknowledge_valid;
        cfu.m_axi_bid = 0;
        cfu.m_axi_bresp = acknowledge_response;
    }

    // What is transferred in this cycle. False if the core broke a rule, which `broken` then names.
    bool transfer(VCfu& cfu) {
        const Address ar{cfu.m_axi_araddr, cfu.m_axi_arlen, cfu.m_axi_arsize, cfu.m_axi_arburst,
                         cfu.m_axi_arid};
        const Address aw{cfu.m_axi_awaddr, cfu.m_axi_awlen, cfu.m_axi_awsize, cfu.m_axi_awburst,
                         cfu.m_axi_awid};
        const Beat w{cfu.m_axi_wdata, 0, uint8_t(cfu.m_axi_wstrb), bool(cfu.m_axi_wlast)};
        bool legal = held_ar.check(cfu.m_axi_arvalid, cfu.m_axi_arready, ar, "AR", broken)
            && held_aw.check(cfu.m_axi_awvalid, cfu.m_axi_awready, aw, "AW", broken)
            && held_w.check(cfu.m_axi_wvalid, cfu.m_axi_wready, w, "W", broken);
        if (legal && cfu.m_axi_arvalid) legal = check(ar, "AR");
        if (legal && cfu.m_axi_awvalid) legal = check(aw, "AW");
        if (*broken || !legal || !order(cfu)) return false;

        if (cfu.m_axi_arvalid && cfu.m_axi_arready) {
            reads.push({ar.address, ar.length + 1u, now + latency, ar.address});
            ++moved[AR];
        }
        if (cfu.m_axi_awvalid && cfu.m_axi_awready) {
            writes.push({aw.address, aw.length + 1u, now, aw.address});
            ++moved[AW];
        }
        if (cfu.m_axi_wvalid && cfu.m_axi_wready) write_data.push(w);
        if (read_valid && cfu.m_axi_rready) read_valid = false;
        if (acknowledge_valid && cfu.m_axi_bready) acknowledge_valid = false;
        ++now;
        return true;
    }

private:
    static constexpr uint32_t QUEUE = 32, LONGEST = 256, WORD = 8, WORD_COST = WORD * BYTE;
    enum Response : uint8_t { OKAY = 0, DECERR = 3 };

    struct Address {
        uint32_t address;
        uint8_t length, size, burst, id;
        bool operator==(const Address&) const = default;
    };
    struct Beat {
        uint64_t data;
        uint32_t address;
        uint8_t strobe;
        bool last;             // of its burst; of a pending one: it may be written
        bool operator==(const Beat&) const = default;
    };
    struct Burst { uint32_t address, beats; uint64_t ready; uint32_t first; };
    struct Acknowledgement { uint64_t ready; uint32_t beats; uint8_t response; uint32_t first; };

    // A channel of the core's: what has been offered stays, and stays the same, until it is taken.
    template <class T>
    struct Held {
        bool waiting = false;
        T payload{};

        bool check(bool valid, bool ready, const T& now, const char* channel, char (&broken)[160]) {
            if (waiting && !(valid && now == payload)) {
                std::snprintf(broken, sizeof broken, "%s %s before it was accepted", channel,
                              valid ? "changed" : "was withdrawn");
                return false;
            }
            waiting = valid && !ready;
            payload = now;
            return true;
        }
    };

    uint64_t now = 0;
    uint32_t tokens = 0;                   // what may be transferred, in 1/BYTE
    uint32_t debt = 0;                     // what others have transferred of it
    bool write_turn = false;
    Ring<Burst, QUEUE> reads, writes;
    Ring<Beat, QUEUE> write_data;
    Ring<Beat, QUEUE * LONGEST> pending;   // taken from the core, not yet acknowledged
    Ring<Acknowledgement, QUEUE> acknowledgements;
    uint32_t write_beats = 0;              // of the burst that is being written
    uint8_t write_response = OKAY;
    bool read_valid = false, read_last = false, acknowledge_valid = false;
    uint64_t read_data = 0;
    uint8_t read_response = OKAY, acknowledge_response = OKAY;
    Held<Address> held_ar, held_aw;
    Held<Beat> held_w;

    bool check(const Address& a, const char* channel) {
        const char* rule =
            a.burst != 1 ? "burst is not INCR"
            : a.size != 3 ? "size is not 8 bytes"
            : a.id != 0 ? "id is not 0"
            : a.address % WORD ? "address is not aligned"
            : a.address % 4096 + WORD * (a.length + 1u) > 4096 ? "burst crosses 4 KiB" : nullptr;
        if (rule)
            std::snprintf(broken, sizeof broken, "%s of %u beats at 0x%08" PRIx32 ": %s", channel,
                          a.length + 1u, a.address, rule);
        return !rule;
    }

    // Write data of a burst that nobody asks for would wait for ever.
    bool order(VCfu& cfu) {
        if (!(write_data.full() && cfu.m_axi_wvalid && writes.empty() && !cfu.m_axi_awvalid)) return true;
        std::snprintf(broken, sizeof broken, "W of more than %u beats before its AW", QUEUE);
        return false;
    }

    // Whether the strike keeps that channel from moving now; `more` transfers are not counted yet.
    bool silent(Channel channel, uint32_t more = 0) const {
        return strike.channel == channel && strike.response == OKAY
            && moved[channel] + more >= strike.number;
    }

    // One more transfer of that channel; what it is answered with.
    uint8_t struck(Channel channel, uint8_t answer, uint32_t word, uint32_t burst) {
        if (moved[channel]++ != strike.number || strike.channel != channel || strike.response == OKAY)
            return answer;
        strike.met = true;
        strike.word = word;
        strike.burst = burst;
        return strike.response;
    }

    uint8_t response(uint32_t address, bool faulty) const {
        if (uint64_t(address - base) + WORD > size) return DECERR;
        return faulty && address + uint64_t(WORD) > fault_begin && address < fault_end
            ? uint8_t(fault_response) : uint8_t(OKAY);
    }

    // Moves as many words as bandwidth and refresh allow in this cycle: one each way at most.
    void grant(Stalls& stalls) {
        acknowledge(stalls);
        if (refresh_cycles && now % refresh_interval < refresh_cycles) return;
        // Less than a word is saved up, so that idle cycles make later ones no faster.
        tokens = (tokens < WORD_COST - 1 ? tokens : WORD_COST - 1) + bandwidth;
        const uint32_t paid = debt < tokens ? debt : tokens;
        tokens -= paid;
        debt -= paid;
        const bool read = !read_valid && !reads.empty() && now >= reads.front().ready && !stalls()
            && !silent(R);
        const bool write = !write_data.empty() && !writes.empty();
        for (int turn = 0; turn < 2 && tokens >= WORD_COST; ++turn) {
            if (write_turn ? write : read) {
                if (write_turn) write_word(); else read_word();
                tokens -= WORD_COST;
            }
            write_turn = !write_turn;
        }
    }

    void read_word() {
        Burst& burst = reads.front();
        read_response = struck(R, response(burst.address, fault_reads), burst.address, burst.first);
        read_data = 0xDEADBEEFDEADBEEF;    // what nobody should use
        if (read_response == OKAY) std::memcpy(&read_data, data + (burst.address - base), WORD);
        read_last = burst.beats == 1;
        read_valid = true;
        burst.address += WORD;
        if (!--burst.beats) reads.pop();
    }

    void write_word() {
        Burst& burst = writes.front();
        Beat beat = write_data.front();
        write_data.pop();
        if (beat.last != (burst.beats == 1) && !*broken)
            std::snprintf(broken, sizeof broken, "WLAST is %d with %u beats of the burst left", beat.last,
                          burst.beats);
        const uint8_t answer = struck(W, response(burst.address, fault_writes), burst.address, burst.first);
        if (answer != OKAY) write_response = answer;
        pending.push({beat.data, burst.address, beat.strobe, answer == OKAY});
        ++write_beats;
        burst.address += WORD;
        if (--burst.beats) return;
        writes.pop();
        acknowledgements.push({now + latency, write_beats, write_response, burst.first});
        write_beats = 0;
        write_response = OKAY;
    }

    void acknowledge(Stalls& stalls) {
        if (acknowledge_valid || acknowledgements.empty() || now < acknowledgements.front().ready
            || stalls() || silent(B)) return;
        const Acknowledgement& a = acknowledgements.front();
        for (uint32_t n = 0; n < a.beats; ++n, pending.pop()) {
            const Beat& beat = pending.front();
            if (!beat.last) continue;
            if (beat.strobe == 0xFF) std::memcpy(data + (beat.address - base), &beat.data, WORD);
            else for (uint32_t byte = 0; byte < WORD; ++byte)
                if (beat.strobe >> byte & 1) data[beat.address - base + byte] = uint8_t(beat.data >> 8 * byte);
        }
        acknowledge_response = struck(B, a.response, a.first, a.first);
        acknowledge_valid = true;
        acknowledgements.pop();
    }
};

#endif
