// Not instrumented: it reads the stacks of others, and runs in signal handlers.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/unwind/unwind.hpp>

#include <creel/fibers/detail/unwind/frame_step.hpp>
#include <creel/fibers/detail/unwind/frame_table.hpp>
#include <creel/fibers/detail/unwind/machine.hpp>
#include <creel/fibers/detail/unwind/saved_registers.hpp>

#include <cerrno>

namespace creel::detail {

namespace {

// A signal handler may do all of this: _dl_find_object() is safe in one (glibc manual, "Dynamic
// Linker Introspection"), and so is the system call of checked_memory. The tables stay mapped while
// the code that they describe runs, or is to be returned to.
class stack_walk {
public:
    stack_walk(const register_values& start, bool has_called,
               std::span<const std::byte> stack = {}) noexcept
        : stack_walk(start, has_called, checked_memory{stack}) {}
    stack_walk(const register_values& start, bool has_called, const checked_memory& memory) noexcept
        : registers_(start), has_called_(has_called), memory_(memory) {}

    std::size_t run(std::span<code_address> out, std::size_t skip) noexcept {
        const int kept = errno; // checked_memory changes it
        std::size_t frames = 0;
        std::size_t written = 0;
        while (written < out.size()) {
            frame_information function;
            const code_address here{registers_.address(), has_called_};
            const bool is_described = find_frame_information(here.inside(), function);
            if (!is_described && (frames > 0 || has_called_))
                break;
            if (frames++ >= skip)
                out[written++] = here;
            if (!is_described || written == out.size() || !step(function, here))
                break;
        }
        errno = kept;
        return written;
    }

private:
    bool step(const frame_information& function, const code_address& here) noexcept {
        const std::uintptr_t below = registers_.stack_pointer();
        if (!step_to_caller(function, here.inside(), registers_, memory_))
            return false;
        // The frame of a signal may lie on another stack than what the signal interrupted.
        has_called_ = !function.of_signal;
        return function.of_signal || registers_.stack_pointer() > below;
    }

    register_values registers_;
    bool has_called_;
    checked_memory memory_;
};

} // namespace

std::size_t unwind_saved(const void* saved_stack_pointer, std::span<code_address> out,
                         std::span<const std::byte> stack) noexcept {
    const saved_registers& saved = learn_saved_registers();
    if (saved.known == 0 || saved_stack_pointer == nullptr)
        return 0;
    const auto* const frame = static_cast<const std::byte*>(saved_stack_pointer);
    const auto word_at = [frame](std::int32_t offset) noexcept {
        std::uintptr_t word = 0;
        std::memcpy(&word, frame + offset, sizeof word);
        return word;
    };
    register_values registers;
    for (std::uint32_t i = 0; i < saved.count; ++i)
        registers.of[saved.registers[i].number] = word_at(saved.registers[i].offset);
    registers.of[stack_pointer_register] =
        reinterpret_cast<std::uintptr_t>(frame + saved.frame_bytes);
    registers.of[address_register] = word_at(saved.address);
    return stack_walk{registers, true, stack}.run(out, 0);
}

std::size_t unwind_parked(const boost::fibers::context& c, std::span<code_address> out,
                          std::span<const std::byte> stack) noexcept {
    return unwind_saved(saved_stack_pointer(c), out, stack);
}

[[gnu::noinline]] std::size_t unwind_here(std::span<code_address> out, std::size_t skip) noexcept {
    register_values registers;
    note_registers(registers);
    return stack_walk{registers, false}.run(out, skip + 1);
}

std::size_t unwind_interrupted(const ucontext_t& interrupted,
                               std::span<code_address> out) noexcept {
    return stack_walk{registers_of(interrupted), false}.run(out, 0);
}

// The address is behind the instruction that calls the kernel.
std::size_t unwind_copy(std::uintptr_t stack_pointer, std::uintptr_t address,
                        std::span<const std::byte> stack, std::span<code_address> out) noexcept {
    register_values registers;
    registers.of[stack_pointer_register] = stack_pointer;
    registers.of[address_register] = address;
    return stack_walk{registers, true, checked_memory{stack, stack_pointer}}.run(out, 0);
}

} // namespace creel::detail
