// Connects that wait for room in the backlog of a Unix server: those of one thread, in a line for
// each address, first come, first served.
//
// Nothing tells of room there: a socket that does not connect yet cannot be polled for it. A
// blocking connect waits, and costs a thread of the kernel for each, which a limit of threads makes
// wait for one another, whatever server they are for, or refuses. So the first in line tries, and
// pauses: at first 50 us, then twice as long each time, to 16 ms. It is late by no more than what
// it has waited before. The others wait behind it, with neither a timer nor a descriptor.
#pragma once

#include <creel/fibers/time.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/ring/link.hpp>
#include <creel/io/endpoint.hpp>

#include <array>
#include <functional>

namespace creel::io::detail {

class connect_lines {
    struct line;
    struct waiting;

public:
    // Is somebody in line for this address?
    [[nodiscard]] bool is_waited_for(const endpoint& to) noexcept { return find(to) != nullptr; }

    // To be first in line for an address, as long as it lives. Then it is the next one's turn.
    class turn {
    public:
        // Parks: until it is. Cancel: yes. Throws: cancelled, std::bad_alloc.
        turn(connect_lines& all, const endpoint& to);
        ~turn();
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;

        // Before the next try. Parks, Cancel: yes. Throws: cancelled, std::bad_alloc.
        void pause();
        // The server takes connections again: the next pause is a short one.
        void had_room() noexcept;

    private:
        line* line_;
    };

private:
    [[nodiscard]] line* find(const endpoint& to) noexcept;
    [[nodiscard]] circle<line>& lines_near(const endpoint& to) noexcept {
        return lines_[std::hash<endpoint>{}(to) % lines_.size()];
    }

    std::array<circle<line>, 16> lines_{};
};

} // namespace creel::io::detail
