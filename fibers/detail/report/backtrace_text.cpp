#include <creel/fibers/detail/report/backtrace_text.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/inspect/dump.hpp>
#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/waiter.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <utility>

#include <pthread.h>

namespace creel::detail {

namespace {

constexpr duration patience_at_end = std::chrono::seconds{20};

std::string addresses_of(const std::vector<code_address>& frames, std::string_view indent) {
    std::string text;
    for (const code_address& frame : frames) {
        std::array<char, 32> address{};
        std::snprintf(address.data(), address.size(), "0x%zx\n", frame.address);
        text.append(indent).append(address.data());
    }
    return text;
}

// A fiber waits for the thread that looks up the names.
struct names_waiter : waiter {
    names_waiter(const std::vector<code_address>& f, std::string_view i)
        : waiter(kind), frames(f), indent(i) {}

    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
    static void describe(const waiter&, std::string& text) { text += "the names of a backtrace"; }
    static constexpr waiter_kind kind{&withdraw, &describe, false};

    static void* make(void* self) noexcept {
        auto& w = *static_cast<names_waiter*>(self);
        leave_pinned_core();
        try {
            w.text = make_backtrace_text(w.frames, w.indent);
        } catch (const std::bad_alloc&) { // addresses need less memory
        }
        wake(w);
        return nullptr;
    }

    const std::vector<code_address>& frames;
    const std::string_view indent;
    std::string text{};
};

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

} // namespace

std::string text_of_backtrace(const std::vector<code_address>& frames, std::string_view indent) {
    if (frames.empty())
        return {};
    std::string text;
    if (this_parker().home == nullptr) {
        text = make_backtrace_text(frames, indent);
    } else {
        names_waiter me{frames, indent};
        pthread_t thread{};
        if (start_joinable_helper_thread(thread, &names_waiter::make, &me) == 0) {
            static_cast<void>(park(me));
            ::pthread_join(thread, nullptr); // it has nothing left to do: this hardly waits
            text = std::move(me.text);
        }
    }
    return text.empty() ? addresses_of(frames, indent) : text;
}

std::string made_elsewhere(std::function<std::string()> make) noexcept {
    try {
        auto shared = std::make_shared<making>(std::move(make));
        auto held = std::make_unique<std::shared_ptr<making>>(shared);
        if (start_helper_thread(&making::run, held.get()) != 0)
            return {};
        static_cast<void>(held.release()); // the thread has it
        const time_point end = deadline_after(clock::now(), patience_at_end);
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

std::string text_at_end(std::vector<code_address> frames, std::string_view indent) noexcept {
    if (frames.empty())
        return {};
    try {
        std::string text = made_elsewhere(
            [frames, prefix = std::string{indent}] { return make_backtrace_text(frames, prefix); });
        return text.empty() ? addresses_of(frames, indent) : text;
    } catch (const std::bad_alloc&) {
        return {};
    }
}

} // namespace creel::detail
