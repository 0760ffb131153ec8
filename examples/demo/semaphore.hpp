// A counting semaphore for the fibers of one scheduler, until sync/ has one.
#pragma once

#include "wait_list.hpp"

#include <creel/fibers/waiter.hpp>

#include <cstddef>
#include <utility>

namespace demo {

class semaphore {
public:
    // A permit, given back when it goes.
    class permit {
    public:
        permit(permit&& other) noexcept : from_(std::exchange(other.from_, nullptr)) {}
        permit& operator=(permit&&) = delete;
        ~permit() {
            if (from_)
                from_->release();
        }

    private:
        friend class semaphore;
        explicit permit(semaphore& from) noexcept : from_(&from) {}
        semaphore* from_;
    };

    semaphore(const char* what, std::size_t permits) noexcept : free_(permits), waiting_(what) {}

    // Parks: until a permit is free, first come first served. Cancel: yes, none is held then.
    [[nodiscard]] permit acquire() {
        creel::check_cancel();
        if (free_ > 0) {
            --free_;
        } else {
            wait_list::entry me{waiting_};
            waiting_.wait(me);
        }
        return permit{*this};
    }

private:
    // Hands the permit to the first who waits, so that nobody can overtake.
    void release() noexcept {
        if (wait_list::entry* next = waiting_.first())
            waiting_.serve(*next);
        else
            ++free_;
    }

    std::size_t free_;
    wait_list waiting_;
};

} // namespace demo
