// Clock, console and host of the simulated SoC.
//
//     Vsim PORT      (0: any that is free)
//
// The host's bytes come over TCP, from one client at a time, and wait there while the SoC is busy, so
// none is lost. The SoC's console goes to standard output.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "Vsim.h"
#include "verilated.h"

namespace {

// Cycles from one look at the network to the next: a look costs as much as some cycles do.
constexpr uint64_t INTERVAL = 128;
volatile sig_atomic_t stopped = 0;

void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

// The host's end of the bridge.
class Host {
public:
    explicit Host(int port) {
        listener = socket(AF_INET, SOCK_STREAM, 0);
        int on = 1;
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (bind(listener, reinterpret_cast<sockaddr *>(&address), size) || listen(listener, 1) ||
            getsockname(listener, reinterpret_cast<sockaddr *>(&address), &size)) {
            char what[40];
            snprintf(what, sizeof what, "cannot listen on port %d", port);
            die(what);
        }
        fcntl(listener, F_SETFL, O_NONBLOCK);
        printf("listening on localhost:%d\n", ntohs(address.sin_port));
        fflush(stdout);
    }

    bool has_byte() const { return taken < in.size(); }
    uint8_t byte() const { return has_byte() ? in[taken] : 0; }
    void take() { taken++; }
    void give(uint8_t byte) { out.push_back(byte); }

    void exchange() {
        if (client < 0) {
            client = accept(listener, nullptr, nullptr);
            if (client < 0) {
                out.clear();
                return;
            }
            fcntl(client, F_SETFL, O_NONBLOCK);
            int on = 1;
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        }
        if (!out.empty()) {
            ssize_t sent = send(client, out.data(), out.size(), MSG_NOSIGNAL);
            if (sent > 0) out.erase(out.begin(), out.begin() + sent);
            else if (sent < 0 && errno != EAGAIN && errno != EINTR) return leave();
        }
        if (has_byte()) return;
        in.resize(1 << 16);
        taken = 0;
        ssize_t got = recv(client, in.data(), in.size(), 0);
        in.resize(got > 0 ? got : 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) leave();
    }

private:
    void leave() {
        close(client);
        client = -1;
        out.clear();
    }

    int listener, client = -1;
    std::vector<uint8_t> in, out;
    size_t taken = 0;
};

}  // namespace

int main(int argc, char **argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    for (int number : {SIGINT, SIGTERM}) signal(number, [](int) { stopped = 1; });
    auto soc = std::make_unique<Vsim>(&context);
    Host host(argc > 1 ? atoi(argv[1]) : 0);
    auto begin = std::chrono::steady_clock::now();
    uint64_t cycle = 0;
    soc->serial_source_ready = 1;
    soc->bridge_source_ready = 1;
    for (; !stopped && !context.gotFinish(); cycle++) {
        if (cycle % INTERVAL == 0) host.exchange();
        soc->bridge_sink_valid = host.has_byte();
        soc->bridge_sink_data = host.byte();
        soc->sys_clk = 0;
        soc->eval();
        if (soc->bridge_sink_valid && soc->bridge_sink_ready) host.take();
        if (soc->bridge_source_valid) host.give(soc->bridge_source_data);
        if (soc->serial_source_valid) {
            putchar(soc->serial_source_data);
            if (soc->serial_source_data == '\n') fflush(stdout);
        }
        soc->sys_clk = 1;
        soc->eval();
        context.timeInc(1);
    }
    host.exchange();
    fflush(stdout);
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    fprintf(stderr, "%llu cycles in %.1f s, %.0f kcycle/s\n", static_cast<unsigned long long>(cycle),
            seconds.count(), cycle / seconds.count() / 1e3);
    soc->final();
}
