#pragma once

// What the programs share: Asio's types as one thread needs them, a listener, and a group of tasks.
//
// No program cancels an operation, or closes a socket that an operation still uses. It shuts the
// socket down, which ends those operations, and also the ones that begin later. With the io_uring
// backend of Boost 1.81 a cancellation can complete an operation of another socket (Asio's pull
// request 1215), and an operation outlives the close of its socket, in the place of the next one
// (Asio's commit f1bdb825).

#include "../wire.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <iostream>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

namespace same_job {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::steady_clock;

// With a concrete type of executor Asio calls handlers directly. The default, any_io_executor, has
// virtual calls and counts references.
using executor = asio::io_context::executor_type;
template <class T = void>
using awaitable = asio::awaitable<T, executor>;
using tcp_stream = tcp::socket::rebind_executor<executor>::other;
using tcp_listener = tcp::acceptor::rebind_executor<executor>::other;
using timer = asio::steady_timer::rebind_executor<executor>::other;

// co_await gives (error, result): that a connection breaks is an everyday event, and an exception
// would cost more than the rest of the connection. With deferred an operation needs no coroutine
// frame of its own; with use_awaitable it has one.
inline constexpr auto nothrow = asio::as_tuple(asio::deferred);

inline auto receive(tcp_stream& peer, line_reader& lines) {
    const auto room = lines.room();
    return peer.async_read_some(asio::buffer(room.data(), room.size()), nothrow);
}

inline void shut_down(tcp_stream& peer) {
    error_code ignored; // it may be broken already
    peer.shutdown(tcp_stream::shutdown_both, ignored);
}

// Prints its port.
inline tcp_listener listen(asio::io_context& context) {
    tcp_listener result{context, {asio::ip::address_v4::loopback(), 0}};
    result.set_option(tcp::no_delay{true}); // accepted sockets inherit it
    std::cout << result.local_endpoint().port() << std::endl;
    return result;
}

// Starts serve(connection) for each connection, until the listener is shut down.
template <class Serve>
awaitable<> accept_all(tcp_listener& listener, Serve serve) {
    timer pause{listener.get_executor()};
    for (;;) {
        auto [error, peer] = co_await listener.async_accept(nothrow);
        if (!error) {
            asio::co_spawn(listener.get_executor(), serve(std::move(peer)), asio::detached);
        } else if (error == asio::error::invalid_argument) {
            co_return;
        } else { // no descriptor is free, or the client has gone
            pause.expires_after(10ms);
            co_await pause.async_wait(nothrow);
        }
    }
}

// Tasks that one coroutine starts and waits for. The last one that ends cancels the timer on which
// that coroutine waits, so a deadline costs nothing more. With && and || there would be a coroutine
// for the timer too, and each task would have a cancellation signal, which costs each operation.
class task_group {
public:
    explicit task_group(const executor& where) : ended_(where) {}

    void spawn(awaitable<> task) {
        ++running_;
        asio::co_spawn(ended_.get_executor(), std::move(task), [this](std::exception_ptr) {
            if (--running_ == 0)
                ended_.cancel();
        });
    }

    [[nodiscard]] std::size_t running() const { return running_; }

    // Waits until all have ended, or until the time.
    awaitable<> join(steady_clock::time_point latest = steady_clock::time_point::max()) {
        if (running_ > 0) {
            ended_.expires_at(latest);
            co_await ended_.async_wait(nothrow);
        }
    }

private:
    timer ended_;
    std::size_t running_ = 0;
};

} // namespace same_job
