#pragma once

// The client of the fanout job.

#include "../peer.hpp"
#include "action.hpp"

namespace creel::bench::same_job::fanout {

struct reply {
    clock::duration took;
    bool whole; // no backend that answers was too late; on a busy machine one may be
};

class client {
public:
    explicit client(std::uint16_t port) : peer_(connect(port)) {
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

} // namespace creel::bench::same_job::fanout
