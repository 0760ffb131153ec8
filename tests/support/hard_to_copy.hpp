// A value whose copies throw as often as the test has asked.
#pragma once

#include <new>

namespace creel::test {

struct hard_to_copy {
    explicit hard_to_copy(int n) : number(n) {}
    hard_to_copy(const hard_to_copy& other) : number(other.number) {
        if (failures > 0) {
            --failures;
            throw std::bad_alloc{};
        }
    }
    hard_to_copy(hard_to_copy&&) = default;
    hard_to_copy& operator=(const hard_to_copy&) = default;
    hard_to_copy& operator=(hard_to_copy&&) = default;
    ~hard_to_copy() = default;

    int number;
    static inline int failures = 0;
};

} // namespace creel::test
