#include <creel/io/serve.hpp>

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/detail/socket/acceptor.hpp>
#include <creel/io/error.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include <sys/resource.h>

namespace creel::io {

// serve() does not call native_handle(): after that, each connection's close would look for
// SO_LINGER.
struct detail::listener_access {
    static int descriptor(const tcp_listener& open) noexcept { return open.record_->fd(); }
};

namespace {

using namespace std::chrono_literals;

constexpr duration first_accept_pause = 5ms; // both pauses are those of Go's net/http
constexpr duration longest_accept_pause = 1s;
constexpr duration calm = 1s; // after this time without an error the next error is reported again

// After these errors accepting fails for ever.
bool ends_serving(int error_number) noexcept {
    return error_number == EBADF || error_number == EINVAL || error_number == ENOTSOCK;
}

// The kernel gives out the lowest free number, so the number of a copy tells how many are open.
std::size_t most_connections_by_default(int listener) noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 512;
    const int lowest_free = ::fcntl(listener, F_DUPFD_CLOEXEC, 0);
    if (lowest_free < 0)
        return 1;
    ::close(lowest_free);
    return std::max<std::size_t>((limit.rlim_cur - static_cast<rlim_t>(lowest_free)) / 2, 1);
}

// Counts the connections of one serve(). Threads: that of serve().
class entrance {
public:
    entrance(std::size_t limit, const tcp_listener& listener) noexcept
        : limit_(limit), listener_(&listener) {}
    entrance(const entrance&) = delete;
    entrance& operator=(const entrance&) = delete;

    // A connection's place, from its accept until its handler is destroyed.
    class place {
    public:
        explicit place(entrance& of) noexcept : of_(&of) { ++of.taken_; }
        place(place&& other) noexcept : of_(std::exchange(other.of_, nullptr)) {}
        place& operator=(place&&) = delete;
        ~place() {
            if (of_ != nullptr)
                of_->place_ends();
        }

    private:
        entrance* of_;
    };

    // Parks: while all places are taken. Cancel: yes.
    void wait_for_place() {
        while (taken_ >= limit_)
            wait_for_end(time_point::max(), {}, limit_);
    }

    // Parks: until a connection has ended or the time has passed; without memory for a timer it
    // only yields. Cancel: yes.
    void pause(duration time) {
        try {
            wait_for_end(now() + time, time, taken_);
            return;
        } catch (const std::bad_alloc&) { // the caller's next try shows whether there is memory
        }
        this_fiber::yield();
    }

private:
    // The fiber of serve(): no other fiber waits here.
    struct end_waiter : waiter {
        explicit end_waiter(entrance& e) noexcept : waiter(kind), at(&e) { e.waiting_ = this; }

        static withdrawal withdraw(waiter& w, wake_reason) noexcept {
            auto& self = static_cast<end_waiter&>(w);
            if (self.at->waiting_ != &self)
                return withdrawal::pending;
            self.at->waiting_ = nullptr;
            return withdrawal::withdrawn;
        }
        static void describe(const waiter& w, std::string& text) {
            const entrance& e = *static_cast<const end_waiter&>(w).at;
            text += "one of " + std::to_string(e.taken_) + " connections of ";
            text += e.listener_->is_open()
                        ? detail::local_name(detail::listener_access::descriptor(*e.listener_))
                        : "a closed listener";
            text += " to end";
        }
        static constexpr waiter_kind kind{&end_waiter::withdraw, &end_waiter::describe, true};

        entrance* at;
    };

    // Waits until fewer than `count` places are taken. Connections may end during the check for a
    // cancel, because it may let other fibers run; so the count is compared after it.
    void wait_for_end(time_point deadline, duration span, std::size_t count) {
        check_cancel();
        if (taken_ < count)
            return;
        end_waiter w{*this};
        const wake_reason why =
            deadline == time_point::max() ? park(w) : park_until(w, deadline, span);
        if (why == wake_reason::cancelled)
            throw_cancelled();
    }

    void place_ends() noexcept {
        --taken_;
        if (end_waiter* w = std::exchange(waiting_, nullptr); w != nullptr)
            wake(*w);
    }

    std::size_t limit_;
    std::size_t taken_ = 0;
    end_waiter* waiting_ = nullptr;
    const tcp_listener* listener_; // for describe()
};

// The function of a connection's fiber. `peer` stands behind `here`, so the stream closes before
// its place is free.
struct served_connection {
    entrance::place here;
    tcp_stream peer;
    detail::connection_handler handler;

    void operator()() { handler.handle(handler.object, peer); }
};

// The loop of one serve(), on its fiber.
class server {
public:
    server(const serve_options& options, tcp_listener& listener, detail::connection_handler handler,
           const std::source_location& where, entrance& door, nursery& connections) noexcept
        : options_(options),
          listener_(listener),
          handler_(handler),
          where_(where),
          door_(door),
          connections_(connections) {}

    // Returns when the listener is closed.
    void run() {
        for (;;) {
            door_.wait_for_place();
            std::optional<tcp_stream> peer = accept();
            if (peer)
                start(std::move(*peer));
            else if (!listener_.is_open())
                return;
        }
    }

private:
    // Empty: the listener is closed, or accepting has failed and this has paused.
    std::optional<tcp_stream> accept() {
        std::exception_ptr failure;
        try {
            return listener_.accept();
        } catch (const std::system_error& error) {
            if (!listener_.is_open())
                return {};
            if (ends_serving(error.code().value()))
                throw;
            failure = std::current_exception();
        } catch (const std::bad_alloc&) {
            failure = std::current_exception();
        }
        pause(failure);
        return {};
    }

    // Without memory for a child the connection waits here until there is some; it is not lost.
    void start(tcp_stream peer) {
        served_connection child{entrance::place{door_}, std::move(peer), handler_};
        for (;;) {
            std::exception_ptr failure;
            try {
                const spawn_options options{options_.name, options_.stack_bytes};
                connections_.spawn(options, std::move(child), where_);
                well_ = true;
                pause_ = first_accept_pause;
                return;
            } catch (const std::bad_alloc&) { // thrown before spawn() has moved `child`
                failure = std::current_exception();
            }
            pause(failure);
        }
    }

    void pause(const std::exception_ptr& failure) {
        const time_point time = now();
        if (!reported_ || (well_ && time - last_failure_ >= calm))
            reported_ = report_failure(failure);
        well_ = false;
        last_failure_ = time;
        door_.pause(pause_);
        pause_ = std::min(2 * pause_, longest_accept_pause);
    }

    // Reports the failure as a child's error, so that it goes to the same handler, which may wait.
    // False: there was no memory for that child either.
    bool report_failure(const std::exception_ptr& failure) {
        try {
            connections_.spawn(
                {.name = "accept"}, [failure] { std::rethrow_exception(failure); }, where_);
            return true;
        } catch (const std::bad_alloc&) {
            return false;
        }
    }

    const serve_options& options_;
    tcp_listener& listener_;
    detail::connection_handler handler_;
    std::source_location where_;
    entrance& door_;
    nursery& connections_;
    duration pause_ = first_accept_pause;
    time_point last_failure_{};
    bool well_ = true;      // a connection was started after the last failure
    bool reported_ = false; // on_error has got an error of the present series of failures
};

} // namespace

void detail::serve(const serve_options& options, tcp_listener& listener, connection_handler handler,
                   const std::source_location& where) {
    if (options.stack_bytes > most_stack_bytes)
        throw std::invalid_argument("io::serve: stack_bytes is above 1 GiB");
    if (options.on_error.kind() != error_policy::kind_type::report)
        throw std::invalid_argument("io::serve: on_error must be a report(); with another policy "
                                    "one peer would end the server");
    if (!listener.is_open())
        throw_error(EBADF, "io::serve: the listener was closed or moved from");
    const std::size_t limit =
        options.max_connections != 0
            ? options.max_connections
            : most_connections_by_default(listener_access::descriptor(listener));
    entrance door{limit, listener};
    with_nursery(
        {.on_error = options.on_error, .name = "serve"},
        [&](nursery& connections) {
            server{options, listener, handler, where, door, connections}.run();
        },
        where);
}

} // namespace creel::io
