// Not instrumented: it reads the stacks of others, and runs in signal handlers.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/unwind/frame_step.hpp>

#include <creel/fibers/detail/unwind/frame_expression.hpp>
#include <creel/fibers/detail/unwind/frame_rules.hpp>

#include <cerrno>

#include <sys/syscall.h>
#include <unistd.h>

namespace creel::detail {

// rt_sigprocmask with an operation that does not exist changes nothing. The kernel reads the new
// mask before it looks at the operation, so the error tells if the word is readable. No sandbox
// forbids this call, and a signal handler may make it.
bool checked_memory::read(std::uintptr_t address, std::uintptr_t& word) noexcept {
    constexpr std::uintptr_t page_bytes = 4096; // or more
    if (address % sizeof word != 0)
        return false;
    if (const std::uintptr_t at = address - begin_;
        at < readable_.size() && readable_.size() - at >= sizeof word) {
        std::memcpy(&word, readable_.data() + at, sizeof word);
        return true;
    }
    if (is_copy_)
        return false;
    const void* const at = reinterpret_cast<const void*>(address);
    if (const std::uintptr_t page = address / page_bytes; page != page_ || page == 0) {
        constexpr int no_operation = -1;
        if (::syscall(SYS_rt_sigprocmask, no_operation, at, nullptr, sizeof word) != -1 ||
            errno != EINVAL)
            return false;
        page_ = page;
    }
    std::memcpy(&word, at, sizeof word);
    return true;
}

namespace {

// The length of an expression stands before it.
dwarf_reader expression_at(const std::uint8_t* start) noexcept {
    constexpr std::size_t longest = 4096;
    dwarf_reader length{start, longest};
    const std::uint64_t bytes = length.uleb();
    return length.block(bytes);
}

// Where the stack pointer was before the call.
bool find_frame_address(const frame_rules& r, const register_values& registers,
                        checked_memory& memory, std::uintptr_t& result) noexcept {
    if (r.frame_expression != nullptr)
        return evaluate(expression_at(r.frame_expression), nullptr, registers, memory, result);
    if (r.frame_register >= register_count)
        return false;
    result = registers.of[r.frame_register] + static_cast<std::uintptr_t>(r.frame_offset);
    return true;
}

bool apply(const register_rule& r, std::uintptr_t frame, const register_values& old,
           checked_memory& memory, std::uintptr_t& result) noexcept {
    using kind = register_rule::kind;
    const auto value = static_cast<std::uintptr_t>(r.value);
    switch (r.how) {
    case kind::same:
    case kind::undefined:
        return true;
    case kind::saved_at:
        return memory.read(frame + value, result);
    case kind::is_offset:
        result = frame + value;
        return true;
    case kind::is_register:
        if (value >= register_count)
            return false;
        result = old.of[value];
        return true;
    case kind::saved_at_that:
    case kind::is_that: {
        const dwarf_reader that = expression_at(reinterpret_cast<const std::uint8_t*>(value));
        std::uintptr_t found = 0;
        if (!evaluate(that, &frame, old, memory, found))
            return false;
        if (r.how == kind::saved_at_that)
            return memory.read(found, result);
        result = found;
        return true;
    }
    }
    return false;
}

} // namespace

bool step_to_caller(const frame_information& function, std::uintptr_t inside,
                    register_values& registers, checked_memory& memory) noexcept {
    if (function.address_register != address_register)
        return false;
    frame_rules found;
    if (!read_rules(function, inside, found))
        return false;
    const register_rule::kind address = found.of[address_register].how;
    if (address == register_rule::kind::undefined || address == register_rule::kind::same)
        return false; // the first function of a thread says so
    std::uintptr_t frame = 0;
    if (!find_frame_address(found, registers, memory, frame))
        return false;
    const register_values old = registers;
    registers.of[stack_pointer_register] = frame; // unless there is a rule
    for (unsigned i = 0; i < register_count; ++i)
        if (!apply(found.of[i], frame, old, memory, registers.of[i]))
            return false;
    return true;
}

} // namespace creel::detail
