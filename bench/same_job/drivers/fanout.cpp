// The drivers of the fanout job: they play the clients and the three backends.
//
// The ID of a request says what each backend does with it: four bits for each backend are an
// action, the bits above them are a serial number. So a client knows what has to come back, and the
// backends need not be told.

#include "job.hpp"
#include "program.hpp"

#include "../../statistics.hpp"
#include "../../system_call.hpp"
#include "../wire.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <iterator>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace creel::bench::same_job {
namespace {

using namespace ::same_job;
using clock = std::chrono::steady_clock;

constexpr auto patience = 10s;             // for each part of the check
constexpr auto longest_reply_time = 1s;    // in the measurement; most replies are far quicker
constexpr auto quickest_late_reply = 70ms; // the quickest of many that wait for the deadline
constexpr std::size_t most_in_flight = 64; // requests of the measurement

enum class action : unsigned char {
    // These give a value.
    answer,
    pieces,      // a long value, which comes in pieces
    slow,        // after 20 ms
    close_after, // the value, and then the end
    // The program finds out at once that there is no value.
    close_before,
    close_within, // in the middle of the answer
    reset_before,
    other_id,
    garbage,
    endless, // a line without an end
    // It finds out at the deadline.
    silent,
    late, // answers after 300 ms
};
constexpr std::array<const char*, 12> action_names{
    "an answer", "an answer in pieces", "a slow answer", "an answer and a close",
    "a close",   "half an answer",      "a reset",       "an answer with another ID",
    "garbage",   "an endless line",     "silence",       "a late answer"};
using actions = std::array<action, backends>;

constexpr bool has_value(action what) {
    return what <= action::close_after;
}
constexpr bool waits(action what) {
    return what >= action::silent;
}
constexpr std::size_t index_of(action what) {
    return static_cast<std::size_t>(what);
}

constexpr std::uint64_t make_id(std::uint64_t serial, const actions& each) {
    std::uint64_t id = serial;
    for (const action what : each)
        id = id << 4 | index_of(what);
    return id;
}
constexpr action action_of(std::uint64_t id, std::size_t backend) {
    return static_cast<action>(id >> 4 * (backends - 1 - backend) & 15);
}

// A line of text in an array.
class text {
public:
    text& operator<<(std::string_view part) {
        std::memcpy(bytes_.data() + size_, part.data(), part.size());
        size_ += part.size();
        return *this;
    }
    text& operator<<(std::uint64_t value) {
        char* const end = bytes_.data() + bytes_.size();
        const auto written = std::to_chars(bytes_.data() + size_, end, value);
        size_ = static_cast<std::size_t>(written.ptr - bytes_.data());
        return *this;
    }
    [[nodiscard]] std::string_view view() const { return {bytes_.data(), size_}; }

private:
    std::array<char, longest_line> bytes_;
    std::size_t size_ = 0;
};

void write_value(text& line, std::uint64_t id, std::size_t backend) {
    line << mixed(id + backend);
    if (action_of(id, backend) == action::pieces)
        for (int i = 0; i < 16; ++i)
            line << "_a_part_of_it_" << std::uint64_t{100} + backend;
}

std::string milliseconds(clock::duration time) {
    return std::to_string(std::chrono::round<std::chrono::milliseconds>(time).count()) + " ms";
}

void send(io::tcp_stream& peer, std::string_view bytes) {
    peer.send_all(std::as_bytes(std::span{bytes}));
}

// Empty at the end, and for a line that is too long.
std::optional<std::string_view> next_line(io::tcp_stream& peer, line_reader& lines) {
    for (;;) {
        if (const auto line = lines.next())
            return line;
        const std::size_t count = lines.too_long() ? 0 : peer.recv(lines.room());
        if (count == 0)
            return std::nullopt;
        lines.received(count);
    }
}

// A free port of 127.0.0.1, bound by a socket that does not listen. A listener may come and go at
// it (SO_REUSEADDR), and meanwhile no other process gets it.
class held_port {
public:
    held_port() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (socket_ < 0)
            fail(errno, "socket");
        const int reuse = 1;
        sockaddr_in own{};
        own.sin_family = AF_INET;
        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        auto* const address = reinterpret_cast<sockaddr*>(&own);
        socklen_t size = sizeof own;
        if (setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) != 0 ||
            bind(socket_, address, size) != 0 || getsockname(socket_, address, &size) != 0) {
            const int error = errno;
            close(socket_);
            fail(error, "bind");
        }
        port_ = ntohs(own.sin_port);
    }
    held_port(held_port&& other) noexcept
        : socket_(std::exchange(other.socket_, -1)), port_(other.port_) {}
    held_port& operator=(held_port&&) = delete;
    ~held_port() {
        if (socket_ >= 0)
            close(socket_);
    }

    [[nodiscard]] std::uint16_t number() const { return port_; }

private:
    int socket_;
    std::uint16_t port_ = 0;
};

class backend {
public:
    explicit backend(std::size_t index) : index_(index) {}

    [[nodiscard]] std::uint16_t port() const { return port_.number(); }
    [[nodiscard]] std::uint64_t accepted() const { return accepted_; }
    [[nodiscard]] std::size_t open_connections() const { return open_; }

    // Listens, at the same port each time. With `backlog` 0 the kernel holds one connection that is
    // not accepted, and lets further ones wait.
    void listen(int backlog = 4096) {
        listener_.emplace(io::endpoint::loopback_v4(port()),
                          io::listen_options{.backlog = backlog});
    }

    // Accepts until refuse(). Each connection is a child of the nursery.
    void accept_into(nursery& connections) {
        connections.spawn([this, &connections] {
            try {
                for (;;)
                    connections.spawn(
                        [this, peer = listener_->accept()]() mutable { serve(peer); });
            } catch (const std::system_error& error) {
                if (error.code() != std::errc::bad_file_descriptor)
                    throw;
            }
        });
    }
    void refuse() { listener_->close(); }

private:
    void serve(io::tcp_stream& peer) {
        peer.set_linger(0s); // a close is a reset: the ports of thousands would stay in use
        ++accepted_;
        ++open_;
        try {
            line_reader lines;
            while (const auto line = next_line(peer, lines)) {
                const auto id = number(*line);
                if (!id)
                    throw std::runtime_error("a backend was asked for '" + std::string{*line} +
                                             "', which is no ID");
                if (!carry_out(peer, *id))
                    break;
            }
        } catch (const std::system_error&) { // the program may break a connection at any time
        }
        --open_;
    }

    // False if the connection ends here.
    bool carry_out(io::tcp_stream& peer, std::uint64_t id) const {
        text line;
        line << id << " ";
        const std::size_t before_value = line.view().size();
        write_value(line, id, index_);
        line << "\n";
        switch (action_of(id, index_)) {
        case action::answer:
            send(peer, line.view());
            return true;
        case action::pieces:
            send_in_pieces(peer, line.view(), {1, before_value, before_value + 1, 200});
            return true;
        case action::slow:
            this_fiber::sleep_for(20ms);
            send(peer, line.view());
            return true;
        case action::close_after:
            peer.set_linger(std::nullopt);
            send(peer, line.view());
            return false;
        case action::close_before:
            peer.set_linger(std::nullopt);
            return false;
        case action::close_within:
            peer.set_linger(std::nullopt);
            send(peer, line.view().substr(0, before_value + 2));
            return false;
        case action::reset_before:
            return false;
        case action::other_id:
            send(peer, (text{} << id + (1U << 12) << line.view().substr(before_value - 1)).view());
            break;
        case action::garbage:
            send_garbage(peer, id);
            break;
        case action::endless:
            send_endless_line(peer);
        case action::silent:
            break;
        case action::late:
            this_fiber::sleep_for(300ms);
            send(peer, line.view());
            break;
        }
        expect_end(peer, action_of(id, index_));
        return false;
    }

    static void send_in_pieces(io::tcp_stream& peer, std::string_view line,
                               std::initializer_list<std::size_t> cuts) {
        std::size_t sent = 0;
        for (const std::size_t cut : cuts) {
            send(peer, line.substr(sent, cut - sent));
            sent = cut;
            this_fiber::sleep_for(1ms);
        }
        send(peer, line.substr(sent));
    }

    static void send_garbage(io::tcp_stream& peer, std::uint64_t id) {
        const auto own = std::to_string(id);
        const std::array<std::string, 5> garbage{"\n", "nonsense\n", "\xff\x01 \x02\n", own + "\n",
                                                 own + " \n"};
        send(peer, garbage[(id >> 12) % garbage.size()]);
    }

    // Ends when the program closes the connection.
    [[noreturn]] static void send_endless_line(io::tcp_stream& peer) {
        for (const std::string part(4096, 'x');; this_fiber::sleep_for(1ms))
            send(peer, part);
    }

    static void expect_end(io::tcp_stream& peer, action before) {
        std::array<std::byte, 1> more{};
        if (peer.recv(more) != 0)
            throw std::runtime_error("the program used the connection to a backend again after " +
                                     std::string{action_names[index_of(before)]});
    }

    std::size_t index_;
    held_port port_{};
    std::optional<io::tcp_listener> listener_{};
    std::uint64_t accepted_ = 0;
    std::size_t open_ = 0;
};

using all_backends = std::array<backend, backends>;

all_backends listening_backends() {
    all_backends all{backend{0}, backend{1}, backend{2}};
    for (auto& one : all)
        one.listen();
    return all;
}

std::vector<std::string> ports_of(const all_backends& all) {
    std::vector<std::string> ports;
    for (const auto& one : all)
        ports.push_back(std::to_string(one.port()));
    return ports;
}

struct reply {
    clock::duration took;
    bool whole; // no backend that answers was too late; on a busy machine one may be
};

class client {
public:
    explicit client(std::uint16_t port)
        : peer_(io::tcp_stream::connect(io::endpoint::loopback_v4(port))) {
        peer_.set_linger(0s); // as in backend::serve
    }

    [[nodiscard]] io::tcp_stream& peer() { return peer_; }

    void send_request(std::uint64_t id) {
        sent_ = clock::now();
        send(peer_, (text{} << id << "\n").view());
    }

    void send_request_in_pieces(std::uint64_t id) {
        sent_ = clock::now();
        for (const char digit : std::to_string(id) + '\n') {
            send(peer_, {&digit, 1});
            this_fiber::sleep_for(1ms);
        }
    }

    // Waits for the reply and checks it. `missing`: one bit for each backend of which no value may
    // come, whatever its action.
    reply receive_reply(std::uint64_t id, unsigned missing = 0) {
        const auto line = next_line(peer_, lines_);
        const auto took = clock::now() - sent_;
        if (!line)
            throw std::runtime_error("the program closed the connection of a client that waited "
                                     "for the reply to " +
                                     std::to_string(id));
        const unsigned lost = missing_values(id, missing, *line) & ~doubtful_;
        if (took < fanout_deadline && (lost != 0 || must_wait(id, missing | doubtful_)))
            throw std::runtime_error("the reply '" + std::string{*line} +
                                     "' lacks a value that may still come, after only " +
                                     milliseconds(took));
        doubtful_ = 0;
        for (std::size_t i = 0; i < backends; ++i)
            if (action_of(id, i) == action::close_after)
                doubtful_ |= 1U << i;
        return {took, lost == 0};
    }

    reply ask(std::uint64_t id, unsigned missing = 0) {
        send_request(id);
        return receive_reply(id, missing);
    }

private:
    static bool must_wait(std::uint64_t id, unsigned missing) {
        for (std::size_t i = 0; i < backends; ++i)
            if (waits(action_of(id, i)) && (missing >> i & 1) == 0)
                return true;
        return false;
    }

    // One bit for each value that could be in the line and is not.
    static unsigned missing_values(std::uint64_t id, unsigned missing, std::string_view line) {
        for (unsigned lost = 0; lost < 1U << backends; ++lost)
            if (line == right_reply(id, missing | lost).view())
                return lost;
        throw std::runtime_error("the reply '" + std::string{line} + "' came instead of '" +
                                 std::string{right_reply(id, missing).view()} + "'");
    }

    static text right_reply(std::uint64_t id, unsigned missing) {
        text line;
        line << id;
        for (std::size_t i = 0; i < backends; ++i) {
            line << " ";
            if (has_value(action_of(id, i)) && (missing >> i & 1) == 0)
                write_value(line, id, i);
            else
                line << "-";
        }
        return line;
    }

    io::tcp_stream peer_;
    line_reader lines_;
    // When a fiber sent the request. The clients submit their sends in batches, so the time that a
    // request waits for its batch counts as a part of its latency.
    clock::time_point sent_{};
    // One bit for each backend that has closed the connection after its last answer. The program
    // may have seen that, or not, so the next reply may have this value, or not.
    unsigned doubtful_ = 0;
};

// Runs a part of the check, or the measurement. Its errors get its name.
void within(clock::duration limit, const std::string& what, const std::function<void()>& part) {
    try {
        fail_after(limit, part);
    } catch (const timed_out&) {
        throw std::runtime_error(what + ": not done after " + milliseconds(limit));
    } catch (const std::exception& error) {
        throw std::runtime_error(what + ": " + error.what());
    }
}

constexpr actions all_answer{action::answer, action::answer, action::answer};

// The parts of the check, with the program and the backends that they share.
class examination {
public:
    examination(program& server, all_backends& all, nursery& connections)
        : server_(server), all_(all), connections_(connections) {
        for (auto& one : all_)
            one.accept_into(connections_);
    }

    void run() {
        within(patience, "its start", [&] { port_ = server_.read_port(); });
        within(patience, "a first request", [&] { first_request(); });
        within(patience, "many clients, some of which break off", [&] { mixed_load(); });
        within(patience, "three slow backends", [&] { slow_backends(); });
        within(patience, "a backend that refuses connections", [&] { refused_connections(); });
        within(patience, "a backend that does not accept", [&] { waiting_connections(); });
        within(patience, "requests after all that", [&] { kept_connections(); });
        within(patience, "the close of all its connections", [&] {
            while (descriptors() > own_descriptors_ ||
                   std::ranges::any_of(all_, [](auto& one) { return one.open_connections() != 0; }))
                this_fiber::sleep_for(5ms);
        });
    }

private:
    std::uint64_t next_id(const actions& each) { return make_id(++serial_, each); }

    [[nodiscard]] std::ptrdiff_t descriptors() const {
        const std::filesystem::directory_iterator all{"/proc/" + std::to_string(server_.pid()) +
                                                      "/fd"};
        return std::distance(begin(all), end(all));
    }

    // Finds out how many descriptors the program has without a client: after a whole reply it has
    // these and the connections of this client.
    void first_request() {
        client only{port_};
        while (!only.ask(next_id(all_answer)).whole) {
        }
        own_descriptors_ = descriptors() - 1 - static_cast<std::ptrdiff_t>(backends);
    }

    void mixed_load() {
        with_nursery([&](nursery& n) {
            for (unsigned seed = 1; seed <= 40; ++seed)
                n.spawn([this, seed] {
                    client own{port_};
                    own.ask(next_id({action::silent, action::answer, action::answer}));
                    ask_at_random(own, seed);
                });
            for (int i = 0; i < 4; ++i)
                for (const auto misbehave :
                     {&examination::reset_within_request, &examination::break_while_waiting,
                      &examination::half_close, &examination::send_too_long_line,
                      &examination::send_garbage, &examination::ask_in_pieces})
                    n.spawn([this, misbehave] { (this->*misbehave)(); });
        });
        for (std::size_t i = 0; i < quickest_.size(); ++i)
            check_quickest(static_cast<action>(i));
    }

    // On a busy machine all replies to a rare action may have come late, so it gets some more.
    void check_quickest(action what) {
        const auto most = waits(what) ? quickest_late_reply : fanout_deadline;
        const auto& quickest = quickest_[index_of(what)];
        client own{port_};
        for (int i = 0; quickest > most && i < 20; ++i) {
            const actions each{action::answer, what, action::answer};
            note(each, own.ask(next_id(each)));
        }
        if (quickest > most)
            throw std::runtime_error("after " + std::string{action_names[index_of(what)]} +
                                     " of a backend the quickest reply took " +
                                     milliseconds(quickest));
    }

    // The quickest reply after each action tells that the program does not wait in vain.
    void note(const actions& each, const reply& came) {
        const bool waited = std::ranges::any_of(each, waits);
        for (const action what : each)
            if (came.whole && waits(what) == waited)
                quickest_[index_of(what)] = std::min(quickest_[index_of(what)], came.took);
    }

    void ask_at_random(client& own, unsigned seed) {
        std::minstd_rand random{seed};
        for (int i = 0; i < 24; ++i) {
            actions each = all_answer;
            for (action& what : each)
                if (random() / 16 % 10 < 3)
                    what = static_cast<action>(random() / 16 % action_names.size());
            note(each, own.ask(next_id(each)));
        }
    }

    void reset_within_request() {
        client own{port_};
        send(own.peer(), "12");
        this_fiber::sleep_for(5ms);
    }

    void break_while_waiting() {
        client resets{port_};
        client closes{port_};
        closes.peer().set_linger(std::nullopt);
        for (client* const own : {&resets, &closes})
            own->send_request(next_id({action::answer, action::silent, action::late}));
        this_fiber::sleep_for(10ms);
    }

    void half_close() {
        for (const action last : {action::answer, action::silent}) {
            client own{port_};
            const auto id = next_id({action::answer, action::answer, last});
            own.send_request(id);
            own.peer().shutdown_send();
            own.receive_reply(id);
            drain(own.peer());
        }
    }

    void send_too_long_line() {
        client own{port_};
        send(own.peer(), std::string(2 * longest_line, '1'));
        drain(own.peer());
    }

    // The job does not say what becomes of such a client. But the backends see no garbage.
    void send_garbage() {
        for (const std::string_view line : {"hello\n", "\n", "-1\n", "12 34\n", "\xff\x01\n"}) {
            client own{port_};
            send(own.peer(), line);
            own.peer().shutdown_send();
            drain(own.peer());
        }
    }

    void ask_in_pieces() {
        client own{port_};
        const auto id = next_id(all_answer);
        own.send_request_in_pieces(id);
        own.receive_reply(id);
        own.ask(next_id(all_answer));
    }

    // Receives until the program has closed the connection.
    static void drain(io::tcp_stream& peer) {
        try {
            std::array<std::byte, longest_line> bytes;
            while (peer.recv(bytes) != 0) {
            }
        } catch (const std::system_error&) { // a reset is an end, too
        }
    }

    // One after the other they would take 60 ms. On a busy machine even 20 ms may take long, so one
    // whole reply is enough.
    void slow_backends() {
        client own{port_};
        for (int i = 0; i < 10; ++i)
            if (own.ask(next_id({action::slow, action::slow, action::slow})).whole)
                return;
        throw std::runtime_error("each of them took 20 ms, and yet no reply had all values");
    }

    void refused_connections() {
        all_[1].refuse();
        client own{port_};
        auto quickest = clock::duration::max();
        for (int i = 0; quickest > fanout_deadline && i < 20; ++i)
            quickest = std::min(quickest, own.ask(next_id(all_answer), 0b010).took);
        if (quickest > fanout_deadline)
            throw std::runtime_error("the quickest reply took " + milliseconds(quickest));
        all_[1].listen();
        all_[1].accept_into(connections_);
        own.ask(next_id(all_answer));
    }

    void waiting_connections() {
        all_[2].refuse();
        all_[2].listen(0);
        client own{port_};
        {
            const auto filler = io::tcp_stream::connect(io::endpoint::loopback_v4(all_[2].port()));
            for (int i = 0; i < 2; ++i)
                own.ask(next_id(all_answer), 0b100);
        }
        all_[2].refuse();
        all_[2].listen();
        all_[2].accept_into(connections_);
        own.ask(next_id(all_answer));
    }

    // Each client has one connection to each backend, from its first request to its end.
    void kept_connections() {
        constexpr std::uint64_t clients = 16;
        std::array<std::uint64_t, backends> before{};
        for (std::size_t i = 0; i < backends; ++i)
            before[i] = all_[i].accepted();
        std::uint64_t late = 0; // a connection is closed after a late answer
        const client idle{port_};
        with_nursery([&](nursery& n) {
            for (std::uint64_t i = 0; i < clients; ++i)
                n.spawn([&] {
                    client own{port_};
                    for (int k = 0; k < 10; ++k)
                        late += own.ask(next_id(all_answer)).whole ? 0 : 1;
                });
        });
        for (std::size_t i = 0; i < backends; ++i)
            if (const auto count = all_[i].accepted() - before[i];
                count < clients || count > clients + late)
                throw std::runtime_error("16 clients made 10 requests each, over " +
                                         std::to_string(count) + " connections to a backend");
    }

    program& server_;
    all_backends& all_;
    nursery& connections_;
    std::uint16_t port_ = 0;
    std::ptrdiff_t own_descriptors_ = 0;
    std::uint64_t serial_ = 0;
    std::array<clock::duration, action_names.size()> quickest_ = [] {
        decltype(quickest_) all;
        all.fill(clock::duration::max());
        return all;
    }();
};

void check(const std::string& path) {
    io::run([&] {
        auto all = listening_backends();
        program server{path, {.arguments = ports_of(all)}};
        with_nursery([&](nursery& connections) {
            examination{server, all, connections}.run();
            connections.cancel();
        });
    });
}

// Up to 64 requests are in flight. More clients than that take turns: if all of them asked at once,
// the deadline would pass while the requests wait for the program's core.
//
// In one of a hundred requests one backend is silent, so the reply comes at the deadline, without
// its value. Such a reply counts as an operation, but its time would say nothing: the percentiles
// are those of the other requests. They include a reply that came at the deadline because the
// program, or this driver, was too slow. More than a tenth of such replies is an error.
class load_of_clients {
public:
    load_of_clients(std::uint16_t port, unsigned count) {
        for (unsigned i = 0; i < count; ++i)
            idle_.push_back(&clients_.emplace_back(port));
    }

    // Spawns fibers that ask, until stop() and the replies to the last requests.
    void start(nursery& n) {
        for (std::size_t i = 0; i < std::min(most_in_flight, clients_.size()); ++i)
            n.spawn([this] {
                while (!stopped_) {
                    client* const one = idle_.front();
                    idle_.pop_front();
                    ask(*one);
                    idle_.push_back(one);
                }
            });
    }
    void stop() {
        stopped_ = true;
        if (late_ * 10 > replies_)
            throw std::runtime_error(std::to_string(late_) + " of " + std::to_string(replies_) +
                                     " replies lacked a value of a backend that had answered");
    }

    void clear_latencies() { latencies_.clear(); }
    [[nodiscard]] const latency_histogram& latencies() const { return latencies_; }
    [[nodiscard]] std::uint64_t replies() const { return replies_; }

private:
    void ask(client& one) {
        const std::uint64_t serial = ++serial_;
        const std::uint64_t random = mixed(serial);
        const bool silent = random % 100 == 0;
        actions each = all_answer;
        if (silent)
            each[random / 100 % backends] = action::silent;
        const auto came = one.ask(make_id(serial, each));
        if (came.took > longest_reply_time)
            throw std::runtime_error("a reply came after " + milliseconds(came.took));
        ++replies_;
        late_ += came.whole ? 0 : 1;
        if (!silent)
            latencies_.record(static_cast<std::uint64_t>(came.took.count()));
    }

    std::deque<client> clients_{};
    std::deque<client*> idle_{};
    std::uint64_t serial_ = 0;
    std::uint64_t replies_ = 0;
    std::uint64_t late_ = 0;
    bool stopped_ = false;
    latency_histogram latencies_{};
};

// Waits until the program has done what it was given: for 40 ms it uses no CPU time.
void wait_until_idle(const program& server) {
    for (auto before = -1ns; before != server.cpu_time();) {
        before = server.cpu_time();
        this_fiber::sleep_for(40ms);
    }
}

double seconds(std::chrono::duration<double> time) {
    return time.count();
}

// What the program and the clients have done so far.
struct moment {
    clock::time_point time;
    std::chrono::nanoseconds cpu;
    std::uint64_t allocations;
    std::uint64_t replies;

    moment(const program& server, const load_of_clients& clients)
        : time(clock::now()),
          cpu(server.cpu_time()),
          allocations(server.allocations()),
          replies(clients.replies()) {}
};

measurement measure_between(nursery& connections, program& server, std::uint16_t port,
                            const load& wanted) {
    measurement seen{};
    client first{port}; // pays for what the program makes once; it stays, and does not count
    first.ask(make_id(0, all_answer));
    wait_until_idle(server);
    const auto without_tasks = static_cast<double>(server.resident_bytes());
    const auto bytes_of_a_task = [&] {
        wait_until_idle(server);
        return (static_cast<double>(server.resident_bytes()) - without_tasks) / wanted.tasks;
    };
    load_of_clients clients{port, wanted.tasks};
    seen.idle_bytes = bytes_of_a_task(); // clients that have not asked yet
    with_nursery([&](nursery& n) {
        clients.start(n);
        this_fiber::sleep_for(wanted.warm_up);
        clients.clear_latencies();
        const moment begin{server, clients};
        this_fiber::sleep_for(wanted.window);
        const moment end{server, clients};
        seen.operations = static_cast<double>(end.replies - begin.replies);
        seen.seconds = seconds(end.time - begin.time);
        seen.cpu_seconds = seconds(end.cpu - begin.cpu);
        seen.allocations = static_cast<double>(end.allocations - begin.allocations);
        seen.p50 = clients.latencies().percentile(0.5);
        seen.p99 = clients.latencies().percentile(0.99);
        seen.p999 = clients.latencies().percentile(0.999);
        clients.stop();
    });
    seen.busy_bytes = bytes_of_a_task(); // clients that have their replies
    connections.cancel();
    return seen;
}

measurement measure(const std::string& path, const load& wanted) {
    return io::run([&] {
        auto all = listening_backends();
        program server{path,
                       {.arguments = ports_of(all), .count_allocations = wanted.count_allocations}};
        std::uint16_t port = 0;
        within(patience, "its start", [&] { port = server.read_port(); });
        const auto start = clock::now() - server.started();
        measurement seen{};
        with_nursery([&](nursery& connections) {
            for (auto& one : all)
                one.accept_into(connections);
            within(patience + wanted.warm_up + wanted.window, "the measurement",
                   [&] { seen = measure_between(connections, server, port, wanted); });
        });
        seen.start_nanoseconds = seconds(start) * 1e9;
        return seen;
    });
}

} // namespace

const job fanout{"fanout", check, measure};

} // namespace creel::bench::same_job
