#include <creel/io/detail/socket/connect_lines.hpp>

#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

namespace creel::io::detail {
namespace {

constexpr duration first_pause = std::chrono::microseconds{50};
constexpr duration longest_pause = std::chrono::milliseconds{16};

} // namespace

// While there is a line, exactly one fiber is first. That fiber is not in `behind`.
struct connect_lines::line : link {
    explicit line(const endpoint& address) noexcept : to(address) {}

    endpoint to;
    duration pause = first_pause;
    circle<connect_lines::waiting> behind{};
};

struct connect_lines::waiting : waiter, link {
    waiting(const waiter_kind& kind, const endpoint& address) noexcept
        : waiter(kind), to(&address) {}

    static withdrawal leave_line(waiter& w, wake_reason) noexcept {
        auto& self = static_cast<waiting&>(w);
        if (!self.linked()) // ~turn() has taken it, and its wake is on the way
            return withdrawal::pending;
        self.unlink();
        return withdrawal::withdrawn;
    }
    static withdrawal end_pause(waiter&, wake_reason) noexcept { return withdrawal::withdrawn; }
    static void describe(const waiter& w, std::string& text) {
        text += "connect to " + static_cast<const waiting&>(w).to->to_string() +
                ", whose backlog is full";
    }
    static constexpr waiter_kind in_line{&leave_line, &describe, true};
    static constexpr waiter_kind pausing{&end_pause, &describe, true};

    const endpoint* to;
};

connect_lines::line* connect_lines::find(const endpoint& to) noexcept {
    line* found = nullptr;
    lines_near(to).for_each([&](line& l) {
        if (l.to == to)
            found = &l;
    });
    return found;
}

connect_lines::turn::turn(connect_lines& all, const endpoint& to) : line_(all.find(to)) {
    if (line_ == nullptr) {
        line_ = std::make_unique<line>(to).release();
        all.lines_near(to).push(*line_);
        return;
    }
    waiting w{waiting::in_line, line_->to};
    line_->behind.push(w);
    if (park(w) == wake_reason::cancelled)
        throw_cancelled();
}

connect_lines::turn::~turn() {
    if (!line_->behind.empty()) {
        wake(line_->behind.pop());
        return;
    }
    line_->unlink();
    const std::unique_ptr<line> ended{line_};
}

void connect_lines::turn::pause() {
    waiting w{waiting::pausing, line_->to};
    const duration d = line_->pause;
    line_->pause = std::min(2 * d, longest_pause);
    if (park_until(w, now() + d, d) == wake_reason::cancelled)
        throw_cancelled();
}

void connect_lines::turn::had_room() noexcept {
    line_->pause = first_pause;
}

} // namespace creel::io::detail
