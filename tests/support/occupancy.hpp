// Counts how many fibers and threads are inside of something, and how often there were too many.
//
//     occupancy inside{1};
//     { m.lock(); const occupancy::stay mine{inside}; ... m.unlock(); }
//     CHECK(inside.violations() == 0);
#pragma once

#include <atomic>

namespace creel::test {

class occupancy {
public:
    explicit occupancy(int most) noexcept : most_(most) {}

    // Its owner is inside while the object exists.
    class stay {
    public:
        explicit stay(occupancy& o, int count = 1) noexcept : in_(o), count_(count) {
            in_.enter(count_);
        }
        stay(const stay&) = delete;
        stay& operator=(const stay&) = delete;
        ~stay() { in_.leave(count_); }

    private:
        occupancy& in_;
        const int count_;
    };

    void enter(int count = 1) noexcept {
        if (inside_.fetch_add(count) + count > most_)
            ++violations_;
    }
    void leave(int count = 1) noexcept { inside_ -= count; }

    [[nodiscard]] int inside() const noexcept { return inside_; }
    [[nodiscard]] int violations() const noexcept { return violations_; }

private:
    const int most_;
    std::atomic<int> inside_{0};
    std::atomic<int> violations_{0};
};

} // namespace creel::test
