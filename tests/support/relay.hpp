// Passes one object after another to the members of a crowd, who use each once: for tests that
// whoever a primitive lets through may destroy it at once. The one who makes the objects destroys
// each when all have begun to use it, and passes on the next.
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
