#include <creel/fibers/detail/unwind/saved_registers.hpp>

#include <creel/fibers/detail/system/valgrind.hpp>
#include <creel/fibers/detail/unwind/machine.hpp>

#include <boost/context/detail/fcontext.hpp>
#include <boost/context/fiber.hpp>
#include <boost/fiber/context.hpp>

#include <array>
#include <bit>
#include <csignal>
#include <cstddef>
#include <cstring>

#include <sys/syscall.h>
#include <unistd.h>

creel::detail::saved_registers creel_saved_registers{
    creel::detail::saved_registers::this_version, 0, 0, 0, 0, 0, 0, 0, {}};

namespace creel::detail {

// With BOOST_CONTEXT_SHADOW_STACK the saved registers are not all: a context needs a shadow stack,
// and the trial has none.
#if CREEL_CAN_UNWIND && !defined(BOOST_USE_UCONTEXT) && !defined(BOOST_CONTEXT_SHADOW_STACK)
#define CREEL_KNOWS_CONTEXTS 1
#else
#define CREEL_KNOWS_CONTEXTS 0
#endif

#if CREEL_KNOWS_CONTEXTS

namespace {

// The saved stack pointer is a private member of a private member, and Boost has no function that
// returns it. An explicit instantiation may name private members ([temp.spec.general]/6), so the
// compiler says where they are. An offset that is written here would be wrong in the next Boost.
template <typename Which, auto Member>
struct private_member {
    friend constexpr auto find(Which) noexcept { return Member; }
};

struct fiber_in_context {
    friend constexpr auto find(fiber_in_context) noexcept;
};
struct pointer_in_fiber {
    friend constexpr auto find(pointer_in_fiber) noexcept;
};

template struct private_member<fiber_in_context, &boost::fibers::context::c_>;
template struct private_member<pointer_in_fiber, &boost::context::fiber::fctx_>;

// The Itanium C++ ABI (2.3) represents a pointer to a data member by its offset.
template <typename Member>
std::int32_t offset_of(Member member) noexcept {
    return static_cast<std::int32_t>(std::bit_cast<std::ptrdiff_t>(member));
}

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

// A handler would run on the small stack of the trial. The C library's sigprocmask leaves out the
// signals that it uses itself.
class all_signals_blocked {
public:
    all_signals_blocked() noexcept {
        const std::uint64_t all = ~std::uint64_t{0};
        ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before_, sizeof all);
    }
    ~all_signals_blocked() {
        ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr, sizeof before_);
    }
    all_signals_blocked(const all_signals_blocked&) = delete;
    all_signals_blocked& operator=(const all_signals_blocked&) = delete;

private:
    std::uint64_t before_ = 0;
};

// The offset of the value among the words of a frame, or -1 unless it is there once.
std::int32_t offset_of_only(std::uintptr_t value, const std::byte* frame, std::int32_t bytes) {
    std::int32_t found = -1;
    for (std::int32_t offset = 0; offset < bytes; offset += std::int32_t{sizeof value}) {
        std::uintptr_t word = 0;
        std::memcpy(&word, frame + offset, sizeof word);
        if (word != value)
            continue;
        if (found >= 0)
            return -1;
        found = offset;
    }
    return found;
}

bool look(const std::byte* frame, const register_trial& trial, saved_registers& result) noexcept {
    const auto bytes = trial.stack_pointer - reinterpret_cast<std::uintptr_t>(frame);
    if (bytes > 4096)
        return false;
    result.frame_bytes = static_cast<std::int32_t>(bytes);
    result.address = offset_of_only(trial.address, frame, result.frame_bytes);
    if (result.address < 0)
        return false;
    for (const unsigned number : kept_registers) {
        const std::int32_t offset =
            offset_of_only(trial_value(result.count), frame, result.frame_bytes);
        if (offset < 0)
            return false;
        result.registers[result.count++] = {number, offset};
    }
    return true;
}

saved_registers learn() noexcept {
    saved_registers result{};
    result.version = saved_registers::this_version;
    result.machine = machine_number;
    result.fiber_offset = offset_of(find(fiber_in_context{}));
    result.pointer_offset = offset_of(find(pointer_in_fiber{}));

    if (under_valgrind()) // Memcheck would report what the trial reads
        return result;
    alignas(64) std::array<std::byte, 1024> stack{};
    register_trial trial{0, 0, reinterpret_cast<void*>(&jump_fcontext)};
    void* const top = stack.data() + stack.size();
    const auto entry = reinterpret_cast<void (*)(transfer_t)>(&run_register_trial);
    transfer_t parked{};
    {
        const all_signals_blocked blocked;
        parked = jump_fcontext(make_fcontext(top, stack.size(), entry), &trial);
    }
    const auto* const frame = static_cast<const std::byte*>(parked.fctx);
    result.known = look(frame, trial, result) ? 1 : 0;
    return result;
}

} // namespace

const saved_registers& learn_saved_registers() noexcept {
    static const bool learnt = [] {
        creel_saved_registers = learn();
        return true;
    }();
    static_cast<void>(learnt);
    return creel_saved_registers;
}

const void* saved_stack_pointer(const boost::fibers::context& c) noexcept {
    return (c.*find(fiber_in_context{})).*find(pointer_in_fiber{});
}

#else

const saved_registers& learn_saved_registers() noexcept {
    return creel_saved_registers;
}

const void* saved_stack_pointer(const boost::fibers::context&) noexcept {
    return nullptr;
}

#endif

} // namespace creel::detail
