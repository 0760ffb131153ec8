#include <creel/fibers/detail/stack/overflow_watch.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <mutex>

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

namespace creel::detail {

namespace {

// The handlers before ours may run on this stack too. The kernel's frame takes up to 11 KiB (AMX).
constexpr std::size_t alternate_stack_bytes = 64 * 1024;

std::mutex mutex; // guards the variables below, except `before`, which the handler reads
const fork_guard watch_in_forks{mutex};
std::size_t watches = 0;
bool installed = false;     // states installed and covered
struct sigaction before {}; // written only while ours is not installed

// All of it is async-signal-safe: no allocation, no lock, no stdio.
class message {
public:
    message& operator<<(std::string_view part) noexcept {
        part = part.substr(0, text_.size() - size_);
        std::copy(part.begin(), part.end(), text_.begin() + static_cast<std::ptrdiff_t>(size_));
        size_ += part.size();
        return *this;
    }
    message& operator<<(std::uint64_t number) noexcept {
        std::array<char, 20> digits;
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
        return *this << std::string_view{digits.data(), end};
    }
    void write() const noexcept {
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text_.data(), size_);
    }

private:
    std::array<char, 1024> text_;
    std::size_t size_ = 0;
};

void report(const stack_overflow& o) noexcept {
    message text;
    text << "creel: stack overflow in fiber \"" << o.name;
    if (o.number_of_name != 0)
        text << " #" << std::uint64_t{o.number_of_name};
    text << "\" (#" << o.id;
    if (o.spawned_in != nullptr)
        text << ", spawned at " << std::string_view{o.spawned_in} << ":"
             << std::uint64_t{o.spawned_on_line};
    text << "): its stack has " << o.stack_bytes << " bytes and " << o.used_bytes
         << " are in use; give it more, at least n.spawn({.stack_bytes = " << 2 * o.stack_bytes
         << "}, f), or make its frames smaller\n";
    text.write();
}

// The stack pointer at the fault; null on other machines.
const std::byte* stack_pointer(const void* context) noexcept {
    [[maybe_unused]] const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
    return reinterpret_cast<const std::byte*>(machine.gregs[REG_RSP]); // NOLINT
#elif defined(__aarch64__)
    return reinterpret_cast<const std::byte*>(machine.sp); // NOLINT
#else
    return nullptr;
#endif
}

void take_default_action(int number, const siginfo_t& info) noexcept {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(number, &action, nullptr);
    // A fault happens again when the handler returns, and then ends the process at the place of the
    // fault. A signal that kill() sent does not come again: raise() sends it again. It is blocked
    // while its handler runs, and is delivered when the handler returns.
    if (info.si_code <= 0)
        ::raise(number);
}

void pass_on(int number, siginfo_t* info, void* context) noexcept {
    const struct sigaction next = before;
    const bool has_handler = (next.sa_flags & SA_SIGINFO) != 0 ||
                             (next.sa_handler != SIG_DFL && next.sa_handler != SIG_IGN); // NOLINT
    if (!has_handler) {
        // For a fault that is ignored the kernel ends the process.
        if (info->si_code > 0 || next.sa_handler == SIG_DFL) // NOLINT
            take_default_action(number, *info);
        return;
    }
    if ((next.sa_flags & static_cast<int>(SA_RESETHAND)) != 0) {
        before.sa_handler = SIG_DFL; // NOLINT
        before.sa_flags = 0;
    }
    if ((next.sa_flags & SA_NODEFER) != 0) {
        sigset_t mine;
        sigemptyset(&mine);
        sigaddset(&mine, number);
        pthread_sigmask(SIG_UNBLOCK, &mine, nullptr);
    }
    if ((next.sa_flags & SA_SIGINFO) != 0)
        next.sa_sigaction(number, info, context);
    else
        next.sa_handler(number);
}

void on_fault(int number, siginfo_t* info, void* context) {
    const int saved_errno = errno;
    stack_overflow found;
    if (info->si_code > 0 && this_scheduler != nullptr &&
        this_scheduler->explain_fault(static_cast<const std::byte*>(info->si_addr),
                                      stack_pointer(context), found))
        report(found);
    pass_on(number, info, context);
    errno = saved_errno;
}

void install() noexcept {
    struct sigaction now {};
    if (installed || ::sigaction(SIGSEGV, nullptr, &now) != 0)
        return;
    before = now;
    struct sigaction action {};
    action.sa_sigaction = &on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (now.sa_flags & static_cast<int>(SA_RESTART));
    action.sa_mask = now.sa_mask;
    installed = ::sigaction(SIGSEGV, &action, nullptr) == 0;
}

void uninstall() noexcept {
    struct sigaction now {};
    if (!installed || ::sigaction(SIGSEGV, nullptr, &now) != 0)
        return;
    // In the state covered, creel's handler stays for good.
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == &on_fault)
        installed = ::sigaction(SIGSEGV, &before, nullptr) != 0;
}

} // namespace

overflow_watch::overflow_watch() noexcept {
    if (CREEL_UNDER_ASAN != 0)
        return;
    watching_ = true;
    stack_t now{};
    if (::sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE) != 0) {
        void* const memory = ::mmap(nullptr, alternate_stack_bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory != MAP_FAILED) {
            stack_t ours{};
            ours.ss_sp = memory;
            ours.ss_size = alternate_stack_bytes;
            if (::sigaltstack(&ours, nullptr) == 0)
                alternate_stack_ = memory;
            else
                ::munmap(memory, alternate_stack_bytes);
        }
    }
    const std::lock_guard lock{mutex};
    if (watches++ == 0)
        install();
}

overflow_watch::~overflow_watch() {
    if (!watching_)
        return;
    {
        const std::lock_guard lock{mutex};
        if (--watches == 0)
            uninstall();
    }
    if (alternate_stack_ == nullptr)
        return;
    stack_t now{};
    if (::sigaltstack(nullptr, &now) == 0 && now.ss_sp == alternate_stack_) {
        stack_t none{};
        none.ss_flags = SS_DISABLE;
        ::sigaltstack(&none, nullptr);
    }
    ::munmap(alternate_stack_, alternate_stack_bytes);
}

// Only where the stack pointer, too, has come to the end of that stack: a wild pointer may hit any
// guard. x86-64's leaf functions use up to 128 bytes below it. The stack is usually the current
// fiber's, and then the frame may be of any size; within a switch it may be another's.
bool scheduler::explain_fault(const std::byte* address, const std::byte* stack_pointer,
                              stack_overflow& found) const noexcept {
    constexpr std::ptrdiff_t red_zone = 128;
    if (!stacks_)
        return false;
    const stack_memory stack = stacks_->guarded_by(address);
    if (stack.top == nullptr)
        return false;
    const fiber_record& f = carrier_record(stack);
    const std::byte* const lowest = stack.top - stack.bytes;
    if (stack_pointer != nullptr &&
        (stack_pointer >= lowest + red_zone ||
         (&f != current_ && stacks_->guarded_by(stack_pointer - red_zone).top != stack.top)))
        return false;
    if (const task_record* t = f.current) {
        found.name = t->given_name;
        if (found.name.empty() && t->kind_of_closure->label.number != 0) {
            found.name = t->kind_of_closure->label.call;
            found.number_of_name = t->kind_of_closure->label.number;
        }
        found.id = t->id;
        found.spawned_in = t->spawned_at.file_name();
        found.spawned_on_line = t->spawned_at.line();
    }
    found.stack_bytes = stack.bytes;
    const std::byte* const reached =
        stack_pointer != nullptr ? std::min(stack_pointer, address) : address;
    found.used_bytes = static_cast<std::size_t>(stack.top - reached);
    return true;
}

} // namespace creel::detail
