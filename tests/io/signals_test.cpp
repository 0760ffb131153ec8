// The dispatcher of signals, without runs.
#include <creel/io/detail/process/signals.hpp>

#include "support/check.hpp"
#include "support/child_process.hpp"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <system_error>

#include <sys/eventfd.h>
#include <unistd.h>

using namespace creel::test;
using creel::io::detail::set_of;
using creel::io::detail::set_signal_gate;
using creel::io::detail::signal_watch;

namespace {

volatile std::sig_atomic_t last_of_program = 0;

void handler_of_program(int number) {
    last_of_program = number;
}

struct event {
    int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ~event() { ::close(fd); }
    [[nodiscard]] bool take() const {
        std::uint64_t count = 0;
        return ::read(fd, &count, sizeof count) == sizeof count;
    }
};

} // namespace

TEST_CASE("each watch is woken for its own signals, and takes each once") {
    const auto child = run_in_child([] {
        std::signal(SIGUSR1, &handler_of_program);
        const event first_event;
        const event second_event;
        signal_watch first{set_of(SIGUSR1), first_event.fd};
        {
            signal_watch second{set_of(SIGUSR1) | set_of(SIGUSR2), second_event.fd};
            std::raise(SIGUSR2);
            expect(!first_event.take() && first.take() == 0);
            expect(second_event.take() && second.take() == SIGUSR2 && second.take() == 0);
            std::raise(SIGUSR2);
            std::raise(SIGUSR1);
            std::raise(SIGUSR1);
            expect(first_event.take() && first.take() == SIGUSR1 && first.take() == 0);
            second.end();
            expect(second.take() == SIGUSR1 && second.take() == SIGUSR2 && second.take() == 0);
        }
        std::raise(SIGUSR1);
        expect(first.take() == SIGUSR1 && last_of_program == 0);
        first.end();
        std::raise(SIGUSR1);
        expect(first.take() == 0 && last_of_program == SIGUSR1);
        std::raise(SIGUSR2); // whose default action is back
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGUSR2);
}

TEST_CASE("what a gate refuses takes its default action, and nobody is told") {
    const auto child = run_in_child([] {
        const event e;
        signal_watch watch{set_of(SIGUSR1), e.fd};
        set_signal_gate(set_of(SIGUSR1), [](int) noexcept { return last_of_program == 0; });
        std::raise(SIGUSR1);
        expect(watch.take() == SIGUSR1);
        last_of_program = 1;
        std::raise(SIGUSR1);
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGUSR1);
}

TEST_CASE("a watch of what cannot be watched is an error, and leaves nothing behind") {
    const auto child = run_in_child([] {
        const event e;
        int error = 0;
        try {
            const signal_watch watch{set_of(SIGINT) | set_of(SIGKILL), e.fd};
        } catch (const std::system_error& refused) {
            error = refused.code().value();
        }
        expect(error == EINVAL);
        std::raise(SIGINT);
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGINT);
}
