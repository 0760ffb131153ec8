// Passes one object after another to the members of a crowd. Each member uses each object once. The
// test's own thread destroys an object as soon as the object has let it through, and passes on the
// next: for primitives that the thread they let through may destroy at once.
#pragma once

#include "support/crowd.hpp"

#include <atomic>
#include <thread>

namespace creel::test {

template <typename T>
class relay {
public:
    void pass_on(T& object) {
        object_ = &object;
        ++passed_;
    }
    // No further one will come.
    void end() { over_ = true; }

    // For a member: calls use(object) for each.
    template <typename F>
    void for_each(F use) {
        for (unsigned next = 1; is_there(next); ++next)
            use(*object_.load());
    }

private:
    bool is_there(unsigned number) const {
        while (passed_ < number) {
            if (over_)
                return false;
            let_others_run();
            std::this_thread::yield(); // the next object comes from another one
        }
        return true;
    }

    std::atomic<T*> object_{nullptr};
    std::atomic<unsigned> passed_{0};
    std::atomic<bool> over_{false};
};

} // namespace creel::test
