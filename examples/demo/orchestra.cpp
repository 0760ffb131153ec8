// The whole show: three backends, the server and the load generator, each a process of its own.
#include "child_process.hpp"
#include "commands.hpp"
#include "page.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/io/run.hpp>

#include <csignal>
#include <exception>
#include <iostream>
#include <list>
#include <stdexcept>
#include <string>

namespace io = creel::io;

namespace demo {

namespace {

constexpr auto start_limit = 20s;
constexpr auto stop_limit = 20s;

// Waits for the line that says on which port a server listens.
int port_of(child_process& server) {
    auto line = creel::fail_after(start_limit, [&] { return server.read_line(); });
    std::size_t colon = line ? line->rfind(':') : std::string::npos;
    if (colon == std::string::npos)
        throw std::runtime_error{server.name() + " did not start"};
    return std::stoi(line->substr(colon + 1));
}

void forward_output(child_process& from) {
    while (auto line = from.read_line())
        std::cout << *line << std::endl;
}

class orchestra {
public:
    explicit orchestra(const demo_options& options) : options_(options) {}

    void start() {
        std::vector<std::string> server_arguments{"server"};
        std::string ports;
        for (std::size_t i = 0; i < backends.size(); ++i) {
            child_process& backend =
                servers_.emplace_front("backend " + std::string{backends[i].name},
                                       std::vector<std::string>{"backend", std::to_string(i)});
            int port = port_of(backend);
            ports += (ports.empty() ? "" : ",") + std::to_string(port);
            std::cout << "backend " << backends[i].name << " on 127.0.0.1:" << port << ": usually "
                      << to_text(backends[i].fastest) << " to " << to_text(backends[i].slowest)
                      << ", but " << backends[i].late_per_mille << " of 1,000 replies take "
                      << to_text(backends[i].late_by) << std::endl;
        }
        std::vector<std::string> arguments{"server", "--backends", ports, "--deadline-ms",
                                           std::to_string(options_.deadline.count())};
        if (options_.port)
            arguments.insert(arguments.end(), {"--port", std::to_string(*options_.port)});
        port_ = port_of(servers_.emplace_front("server", arguments));
        started_ = true;
        std::cout << "server on 127.0.0.1:" << port_ << ": each page asks all three, and waits for "
                  << to_text(options_.deadline) << " at most" << std::endl;
    }

    // Loads the server and reports. If once() is set, returns; otherwise the server stays for the
    // public, and this does not return. Throws when a process fails.
    void play() {
        creel::with_nursery([&](creel::nursery& n) {
            for (child_process& server : servers_)
                n.spawn({.name = server.name()}, [&server] {
                    int status = server.wait();
                    throw std::runtime_error{server.name() + " ended with status " +
                                             std::to_string(status)};
                });
            run_load_generator();
            if (options_.once) {
                n.cancel();
                return;
            }
            std::cout << "The server goes on. Try:\n"
                      << "  curl -i http://127.0.0.1:" << port_ << "/\n"
                      << "  curl http://127.0.0.1:" << port_ << "/stats\n"
                      << "  wrk -t1 -c64 -d5 http://127.0.0.1:" << port_ << "/\n"
                      << "Ctrl-C ends it." << std::endl;
        });
    }

    // The server ends first, so that it still has the backends for its last requests.
    void stop() {
        for (child_process& server : servers_) {
            server.terminate();
            int status = creel::fail_after(stop_limit, [&] {
                forward_output(server);
                return server.wait();
            });
            // SIGTERM kills a server that has not yet installed its handler.
            if (status != 0 && (started_ || status != 128 + SIGTERM))
                throw std::runtime_error{server.name() + " ended with status " +
                                         std::to_string(status)};
        }
    }

private:
    void run_load_generator() {
        std::cout << "load generator: " << options_.connections << " connections for "
                  << options_.seconds << " s" << std::endl;
        child_process load{"load generator",
                           {"load", "--port", std::to_string(port_), "--seconds",
                            std::to_string(options_.seconds), "--connections",
                            std::to_string(options_.connections), "--deadline-ms",
                            std::to_string(options_.deadline.count())}};
        forward_output(load);
        if (load.wait() != 0)
            throw std::runtime_error{"the load generator was not content"};
    }

    const demo_options& options_;
    std::list<child_process> servers_{}; // the one that was started last comes first
    int port_ = 0;
    bool started_ = false; // each server has said that it listens
};

} // namespace

int run_demo(const demo_options& options) {
    io::run([&] {
        orchestra all{options};
        try {
            all.start();
            all.play();
        } catch (const creel::cancelled&) {
            // Ctrl-C. The rest is done under a shield. Then run() raises the signal again, and the
            // process ends as any program does.
            std::cout << "\nstopping" << std::endl;
        }
        creel::shield([&] { all.stop(); });
    });
    return 0;
}

} // namespace demo
