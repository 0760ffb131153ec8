// Lets a test act between a completion and its fiber's turn. A fiber that has waited for a bell
// since before the wait under test was submitted becomes ready first, if both complete in one poll.
#pragma once

#include "clean_run.hpp"

#include <creel/io/readiness.hpp>

#include <array>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace creel::test {

class bell {
public:
    bell() {
        if (::pipe2(ends_.data(), O_CLOEXEC) < 0)
            throw std::system_error(errno, std::generic_category(), "pipe2");
    }
    bell(const bell&) = delete;
    bell& operator=(const bell&) = delete;
    ~bell() {
        for (const int end : ends_)
            ::close(end);
    }
    void ring() const { CHECK(::write(ends_[1], "!", 1) == 1); }
    void wait() const {
        io::wait_readable(ends_[0]);
        char rung = 0;
        CHECK(::read(ends_[0], &rung, 1) == 1);
    }

private:
    std::array<int, 2> ends_{};
};

} // namespace creel::test
