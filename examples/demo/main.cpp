// The command line of the demo. Without a command it runs the whole show: see orchestra.cpp.
#include "commands.hpp"
#include "page.hpp"

#include <charconv>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace {

constexpr std::string_view help =
    R"(demo [--once] [--seconds N] [--connections N] [--port N] [--deadline-ms N]
    Starts three slow backends and an HTTP server that asks all of them for every page, drives it
    with a load generator, prints a report, and goes on serving until Ctrl-C.
    --once           end after the report; the exit status tells whether every reply was right
    --seconds N      how long the load lasts (5); with 0 each connection asks once
    --connections N  of the load generator (64)
    --port N         of the server; without it 8080 or, if that is taken, a free one
    --deadline-ms N  how long a page waits for its backends (50)

Its processes, to be run by hand:
demo backend INDEX [--port N] [--latency-ms N]
demo server --backends PORT,PORT,PORT [--port N] [--deadline-ms N]
demo load [--port N] [--seconds N] [--connections N] [--deadline-ms N]
)";

struct usage_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

int number(std::string_view text, int least, int most) {
    int value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
        throw usage_error{"'" + std::string{text} + "' is not a number from " +
                          std::to_string(least) + " to " + std::to_string(most)};
    return value;
}

// The words of the command line, which are taken one after the other.
class words {
public:
    words(int count, char** arguments) : at_(arguments + 1), end_(arguments + count) {}

    [[nodiscard]] bool empty() const { return at_ == end_; }
    [[nodiscard]] std::string_view peek() const { return empty() ? "" : *at_; }
    std::string_view next() {
        if (empty())
            throw usage_error{"something is missing at the end"};
        return *at_++;
    }
    int port() { return number(next(), 0, 65535); }
    unsigned seconds() { return static_cast<unsigned>(number(next(), 0, 24 * 3600)); }
    unsigned connections() { return static_cast<unsigned>(number(next(), 1, 4000)); }
    std::chrono::milliseconds milliseconds() {
        return std::chrono::milliseconds{number(next(), 0, 3600 * 1000)};
    }

private:
    char** at_;
    char** end_;
};

[[noreturn]] void unknown(std::string_view option) {
    throw usage_error{"unknown option " + std::string{option}};
}

int backend(words& line) {
    demo::backend_options options;
    options.index = static_cast<std::size_t>(
        number(line.next(), 0, static_cast<int>(demo::backends.size()) - 1));
    while (!line.empty()) {
        std::string_view option = line.next();
        if (option == "--port")
            options.port = line.port();
        else if (option == "--latency-ms")
            options.latency = line.milliseconds();
        else
            unknown(option);
    }
    return demo::run_backend(options);
}

int server(words& line) {
    demo::server_options options;
    while (!line.empty()) {
        std::string_view option = line.next();
        if (option == "--port") {
            options.port = line.port();
            options.port_given = true;
        } else if (option == "--deadline-ms") {
            options.deadline = line.milliseconds();
        } else if (option == "--backends") {
            std::string_view list = line.next();
            for (std::size_t comma = 0; comma != std::string_view::npos;) {
                comma = list.find(',');
                options.backend_ports.push_back(number(list.substr(0, comma), 1, 65535));
                list.remove_prefix(comma == std::string_view::npos ? 0 : comma + 1);
            }
        } else {
            unknown(option);
        }
    }
    if (options.backend_ports.size() != demo::backends.size())
        throw usage_error{"--backends wants " + std::to_string(demo::backends.size()) + " ports"};
    return demo::run_server(options);
}

int load(words& line) {
    demo::load_options options;
    while (!line.empty()) {
        std::string_view option = line.next();
        if (option == "--port")
            options.port = line.port();
        else if (option == "--seconds")
            options.seconds = line.seconds();
        else if (option == "--connections")
            options.connections = line.connections();
        else if (option == "--deadline-ms")
            options.deadline = line.milliseconds();
        else
            unknown(option);
    }
    return demo::run_load(options);
}

int show(words& line) {
    demo::demo_options options;
    while (!line.empty()) {
        std::string_view option = line.next();
        if (option == "--once") {
            options.once = true;
        } else if (option == "--seconds") {
            options.seconds = line.seconds();
        } else if (option == "--connections") {
            options.connections = line.connections();
        } else if (option == "--port") {
            options.port = line.port();
        } else if (option == "--deadline-ms") {
            options.deadline = line.milliseconds();
        } else if (option == "--help" || option == "-h") {
            std::cout << help;
            return 0;
        } else {
            unknown(option);
        }
    }
    return demo::run_demo(options);
}

int run(words& line) {
    std::string_view command = line.peek();
    if (command == "backend")
        return line.next(), backend(line);
    if (command == "server")
        return line.next(), server(line);
    if (command == "load")
        return line.next(), load(line);
    return show(line);
}

} // namespace

int main(int argc, char** argv) {
    try {
        words line{argc, argv};
        return run(line);
    } catch (const usage_error& error) {
        std::cerr << "demo: " << error.what() << "\n" << help;
        return 2;
    } catch (const std::exception& error) {
        std::cerr << "demo: " << error.what() << '\n';
        return 1;
    }
}
