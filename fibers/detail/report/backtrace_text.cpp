#include <creel/fibers/detail/report/backtrace_text.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/inspect/asking_thread.hpp>
#include <creel/fibers/detail/inspect/dump.hpp>
#include <creel/fibers/detail/report/reporting.hpp>
#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/time.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

namespace creel::detail {

namespace {

constexpr duration patience = std::chrono::seconds{20};

// All backtraces of a process that is about to end share one limit: a group of errors has many, and
// what keeps the first from its names keeps all of them. The first call sets it. Threads: any.
time_point end_of_names() noexcept {
    static constinit std::atomic<time_point::rep> known{0};
    time_point::rep first = 0;
    const time_point end = deadline_after(clock::now(), patience);
    if (known.compare_exchange_strong(first, end.time_since_epoch().count()))
        return end;
    return time_point{duration{first}};
}

std::string addresses_of(const std::vector<code_address>& frames, std::string_view indent) {
    std::string text;
    for (const code_address& frame : frames) {
        std::array<char, 32> address{};
        std::snprintf(address.data(), address.size(), "0x%zx\n", frame.address);
        text.append(indent).append(address.data());
    }
    return text;
}

// Its maker and its thread hold it together: the thread may go on after the maker has given up.
struct making {
    explicit making(std::function<std::string()> f) : make(std::move(f)) {}

    static void* run(void* held) noexcept {
        const std::unique_ptr<std::shared_ptr<making>> mine{
            static_cast<std::shared_ptr<making>*>(held)};
        making& self = **mine;
        leave_pinned_core();
        try {
            self.text = self.make();
        } catch (...) { // it stays empty
        }
        self.is_done.store(1, std::memory_order_release); // pairs with made_elsewhere()
        futex_wake_all(self.is_done);
        return nullptr;
    }

    std::function<std::string()> make;
    std::string text{};
    std::atomic<std::uint32_t> is_done{0};
};

std::string made_until(time_point end, std::function<std::string()> make) noexcept {
    if (clock::now() >= end)
        return {};
    const reporting now;
    try {
        auto shared = std::make_shared<making>(std::move(make));
        auto held = std::make_unique<std::shared_ptr<making>>(shared);
        if (start_helper_thread(&making::run, held.get()) != 0)
            return {};
        static_cast<void>(held.release());                             // the thread has it
        while (shared->is_done.load(std::memory_order_acquire) == 0) { // pairs with run()
            if (clock::now() >= end)
                return {};
            futex_wait(shared->is_done, 0, end);
        }
        return std::move(shared->text);
    } catch (const std::bad_alloc&) {
        return {};
    }
}

} // namespace

std::string text_of_backtrace(const std::vector<code_address>& frames, std::string_view indent) {
    if (frames.empty())
        return {};
    std::string text;
    try {
        on_asking_thread("the names of a backtrace",
                         [&] { text = make_backtrace_text(frames, indent); });
    } catch (const std::system_error&) { // no thread
    } catch (const std::bad_alloc&) {    // addresses need less memory
    }
    return text.empty() ? addresses_of(frames, indent) : text;
}

std::string made_elsewhere(std::function<std::string()> make) noexcept {
    return made_until(deadline_after(clock::now(), patience), std::move(make));
}

std::string text_at_end(const std::vector<code_address>& frames, std::string_view indent) noexcept {
    if (frames.empty())
        return {};
    try {
        std::string text = made_until(end_of_names(), [frames, prefix = std::string{indent}] {
            return make_backtrace_text(frames, prefix);
        });
        return text.empty() ? addresses_of(frames, indent) : text;
    } catch (const std::bad_alloc&) {
        return {};
    }
}

} // namespace creel::detail
