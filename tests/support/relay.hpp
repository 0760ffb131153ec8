// Passes one object after another to the members of a crowd. Each member uses each object once. As
// soon as an object lets the test's own thread pass, that thread destroys it and passes on the
// next: for primitives that a thread may destroy as soon as they have let it pass.
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
    // No more objects will come.
    void end() { over_ = true; }

    // A member calls it: it calls use(object) for each object.
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
            std::this_thread::yield(); // the next object comes from another thread
        }
        return true;
    }

    std::atomic<T*> object_{nullptr};
    std::atomic<unsigned> passed_{0};
    std::atomic<bool> over_{false};
};

} // namespace creel::test
