#pragma once

// co_await serve(from, handler): accepts, and runs handler(stream) for each connection, until it is
// cancelled. It then cancels the connections and waits for them. A connection that fails ends
// alone.

#include "group.hpp"
#include "sleep.hpp"
#include "stream.hpp"

#include <cerrno>
#include <chrono>
#include <system_error>

namespace same_job::coroutine {

// The next connection. When descriptors or memory have run out it waits until there may be some.
inline task<stream> next_connection(const listener& from) {
    using namespace std::chrono_literals;
    for (;;) {
        bool exhausted = false;
        try {
            co_return co_await from.accept();
        } catch (const std::system_error& error) {
            switch (error.code().value()) {
            case EMFILE:
            case ENFILE:
            case ENOBUFS:
            case ENOMEM:
                exhausted = true;
                break;
            case ECONNABORTED: // it was reset before it was accepted
                break;
            default:
                throw;
            }
        }
        if (exhausted)
            co_await sleep_for(10ms);
    }
}

template <class Handler> // Handler: task<>(stream)
task<> serve(const listener& from, Handler handler) {
    return with_group(errors::stay_alone, [&from, handler](group& connections) -> task<> {
        for (;;)
            connections.spawn(handler(co_await next_connection(from)));
    });
}

} // namespace same_job::coroutine
