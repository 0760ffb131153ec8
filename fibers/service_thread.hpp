// A thread for an entry point, which serves the world outside while every scheduler of the process
// may be stuck.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <functional>

#include <pthread.h>

namespace creel {

// It takes no signal but those of its own faults, and runs on all cores of the process, whichever
// thread starts it. A forked child does not have it: there the object must not be destroyed.
class service_thread {
public:
    // Calls body on the thread; `name` is what top -H shows, at most 15 characters. Body throws
    // nothing. Threads: any. Throws: std::system_error if there is no thread left; std::bad_alloc.
    service_thread(const char* name, std::function<void()> body);
    // Parks: it blocks the thread until body has returned. Threads: any but its own.
    ~service_thread();
    service_thread(const service_thread&) = delete;
    service_thread& operator=(const service_thread&) = delete;

private:
    static void* start(void* self) noexcept;

    const char* const name_;
    const std::function<void()> body_;
    pthread_t thread_{};
};

} // namespace creel
