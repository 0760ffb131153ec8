// Which fiber runs on a thread, read by another thread while that one may go on.
//
// The run writes all of it without a thought of other threads, so that a switch costs nothing more.
// So the reader has the kernel copy the words (process_vm_readv(2) of the own process): an address
// that is none is an error there and no fault. And it takes the run's progress before and after:
// only if nothing has switched in between the words belong together.
#pragma once

#include <creel/fibers/task_info.hpp>

#include <cstdint>
#include <string>

namespace creel::detail {

class scheduler;

struct running_fiber {
    enum class kind_type : std::uint8_t {
        unknown, // it has switched meanwhile, or the kernel does not copy
        main,
        task,
        native,
        creel // its loop, between two fibers
    };

    kind_type kind = kind_type::unknown;
    task_info who{}; // of main and natives only the number
};

// Threads: any. The run may end meanwhile: a scheduler is immortal. Throws: std::bad_alloc.
[[nodiscard]] running_fiber running_fiber_of(const scheduler& s);

// "worker (#17, spawned at server.cpp:42)", "main (#1)", "a fiber". Throws: std::bad_alloc.
[[nodiscard]] std::string to_text(const running_fiber& f);

} // namespace creel::detail
