// Connects that wait for room in the backlog of a Unix server: for each address one line of fibers
// of this thread, first come, first served.
//
// The kernel does not tell when there is room: a socket that is not connected yet cannot be polled
// for it. A blocking connect waits in the kernel and costs one of its threads; because their number
// is limited, connects would wait for one another, whatever server they are for, or be refused. So
// here the first fiber in line tries, and pauses between its tries: 50 us, then twice as long each
// time, up to 16 ms. So it is late by no more than the time that it has waited. The other fibers
// wait behind it, and need neither a timer nor a descriptor.
//
//     (comes) ──1──► first ──5──► (leaves)
//        │           ▲ │ ▲
//        2           3 └4┘
//        ▼           │
//     behind ────────┘
//        └─────6────────────────► (leaves)
//
//     1  There is no line for the address: turn() makes one.
//     2  There is a line: turn() parks the fiber in `behind`.
//     3  The first fiber leaves: ~turn() takes this fiber out of `behind` and wakes it.
//     4  The backlog is still full: pause(). After a connect that had room, had_room() makes the
//        next pause the shortest one.
//     5  The connect succeeds, fails or is cancelled: ~turn(). Without a fiber behind, the line
//        ends.
//     6  A cancel: leave_line() unlinks the fiber, and turn() throws. After 3 it is too late
//        for 6: leave_line() answers `pending`, and the fiber is first.
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
    // True if there is a line for this address.
    [[nodiscard]] bool is_waited_for(const endpoint& to) noexcept { return find(to) != nullptr; }

    // A fiber's turn: the fiber is first in line from the end of the constructor to the destructor,
    // which passes the turn on to the next fiber.
    class turn {
    public:
        // Parks: while another fiber is first. Cancel: yes. Throws: cancelled, std::bad_alloc.
        turn(connect_lines& all, const endpoint& to);
        ~turn();
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;

        // Waits before the next try. Parks: yes. Cancel: yes. Throws: cancelled, std::bad_alloc.
        void pause();
        // The server takes connections again: the next pause is the shortest one.
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
