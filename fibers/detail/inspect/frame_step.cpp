// Not instrumented: it reads the stacks of others, and runs in signal handlers.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/inspect/frame_step.hpp>

#include <creel/fibers/detail/inspect/frame_expression.hpp>

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
    const void* const at = reinterpret_cast<const void*>(address);
    if (address - reinterpret_cast<std::uintptr_t>(readable_.data()) < readable_.size()) {
        std::memcpy(&word, at, sizeof word);
        return true;
    }
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

// How to find a register of the caller.
struct rule {
    enum class kind : std::uint8_t {
        same,
        undefined,
        saved_at,      // at an offset from the canonical frame address (CFA)
        is_offset,     // it is the CFA plus an offset
        is_register,   // it is in another register
        saved_at_that, // where an expression says
        is_that,       // what an expression says
    };
    kind how = kind::same;
    std::int64_t value = 0; // the offset, the register, or the address of the expression
};

struct rules {
    std::array<rule, register_count> of{};
    std::uint64_t frame_register = stack_pointer_register; // the CFA is this register
    std::int64_t frame_offset = 0;                         // plus this,
    const std::uint8_t* frame_expression = nullptr;        // unless there is an expression
};

// Compilers remember one state at a time.
struct remembered_rules {
    std::array<rules, 2> states;
    std::size_t count = 0;
};

// The length of an expression stands before it.
dwarf_reader expression_at(const std::uint8_t* start) noexcept {
    constexpr std::size_t longest = 4096;
    dwarf_reader length{start, longest};
    const std::uint64_t bytes = length.uleb();
    return length.block(bytes);
}

// Executes the instructions up to the place of interest.
class rule_reader {
public:
    rule_reader(const frame_information& f, std::uintptr_t inside) noexcept
        : function_(f), inside_(inside) {}

    [[nodiscard]] const rules& result() const noexcept { return now_; }

    bool run() noexcept {
        // All instructions of the common part count.
        if (!run(function_.common, false))
            return false;
        at_start_ = now_;
        return run(function_.own, true);
    }

private:
    bool run(dwarf_reader from, bool has_places) noexcept {
        std::uintptr_t place = function_.function;
        while (!from.at_end()) {
            const std::uint8_t code = from.byte();
            const std::uint8_t low = code & 0x3f;
            switch (code >> 6) {
            case 1: // advance_loc
                place += low * function_.code_factor;
                break;
            case 2: // offset
                set(low, rule::kind::saved_at, scaled(from.uleb()));
                break;
            case 3: // restore
                restore(low);
                break;
            default:
                if (!run_one(low, from, place))
                    return false;
                break;
            }
            if (has_places && place > inside_)
                return true;
        }
        return !from.failed();
    }

    bool run_one(std::uint8_t code, dwarf_reader& from, std::uintptr_t& place) noexcept {
        using kind = rule::kind;
        switch (code) {
        case 0x00: // nop
            return true;
        case 0x02: // advance_loc1
            place += from.byte() * function_.code_factor;
            return true;
        case 0x03: // advance_loc2
            place += from.fixed<std::uint16_t>() * function_.code_factor;
            return true;
        case 0x04: // advance_loc4
            place += from.fixed<std::uint32_t>() * function_.code_factor;
            return true;
        case 0x05: { // offset_extended
            const std::uint64_t number = from.uleb();
            set(number, kind::saved_at, scaled(from.uleb()));
            return true;
        }
        case 0x06: // restore_extended
            restore(from.uleb());
            return true;
        case 0x07: // undefined
            set(from.uleb(), kind::undefined, 0);
            return true;
        case 0x08: // same_value
            set(from.uleb(), kind::same, 0);
            return true;
        case 0x09: { // register
            const std::uint64_t number = from.uleb();
            set(number, kind::is_register, static_cast<std::int64_t>(from.uleb()));
            return true;
        }
        case 0x0a: // remember_state
            if (remembered_.count == remembered_.states.size())
                return false;
            remembered_.states[remembered_.count++] = now_;
            return true;
        case 0x0b: // restore_state
            if (remembered_.count == 0)
                return false;
            now_ = remembered_.states[--remembered_.count];
            return true;
        case 0x0c: // def_cfa
            now_.frame_register = from.uleb();
            set_frame_offset(static_cast<std::int64_t>(from.uleb()));
            return true;
        case 0x0d: // def_cfa_register
            now_.frame_register = from.uleb();
            now_.frame_expression = nullptr;
            return true;
        case 0x0e: // def_cfa_offset
            set_frame_offset(static_cast<std::int64_t>(from.uleb()));
            return true;
        case 0x0f: // def_cfa_expression
            now_.frame_expression = from.at();
            from.block(from.uleb());
            return true;
        case 0x10: // expression
        case 0x16: // val_expression
        {
            const std::uint64_t number = from.uleb();
            set(number, code == 0x10 ? kind::saved_at_that : kind::is_that,
                static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(from.at())));
            from.block(from.uleb());
            return true;
        }
        case 0x11: { // offset_extended_sf
            const std::uint64_t number = from.uleb();
            set(number, kind::saved_at, from.sleb() * function_.data_factor);
            return true;
        }
        case 0x12: // def_cfa_sf
            now_.frame_register = from.uleb();
            set_frame_offset(from.sleb() * function_.data_factor);
            return true;
        case 0x13: // def_cfa_offset_sf
            set_frame_offset(from.sleb() * function_.data_factor);
            return true;
        case 0x14: { // val_offset
            const std::uint64_t number = from.uleb();
            set(number, kind::is_offset, scaled(from.uleb()));
            return true;
        }
        case 0x15: { // val_offset_sf
            const std::uint64_t number = from.uleb();
            set(number, kind::is_offset, from.sleb() * function_.data_factor);
            return true;
        }
        case 0x2e: // GNU_args_size, which only a throw needs
            from.uleb();
            return true;
        default:
            return false;
        }
    }

    [[nodiscard]] std::int64_t scaled(std::uint64_t offset) const noexcept {
        return static_cast<std::int64_t>(offset) * function_.data_factor;
    }

    // Registers above the last one, as those of vectors, are of no use here.
    void set(std::uint64_t number, rule::kind how, std::int64_t value) noexcept {
        if (number < register_count)
            now_.of[number] = {how, value};
    }
    void restore(std::uint64_t number) noexcept {
        if (number < register_count)
            now_.of[number] = at_start_.of[number];
    }
    void set_frame_offset(std::int64_t offset) noexcept {
        now_.frame_offset = offset;
        now_.frame_expression = nullptr;
    }

    const frame_information& function_;
    const std::uintptr_t inside_;
    rules now_;
    rules at_start_;
    remembered_rules remembered_;
};

// Where the stack pointer was before the call.
bool find_frame_address(const rules& r, const register_values& registers, checked_memory& memory,
                        std::uintptr_t& result) noexcept {
    if (r.frame_expression != nullptr)
        return evaluate(expression_at(r.frame_expression), nullptr, registers, memory, result);
    if (r.frame_register >= register_count)
        return false;
    result = registers.of[r.frame_register] + static_cast<std::uintptr_t>(r.frame_offset);
    return true;
}

bool apply(const rule& r, std::uintptr_t frame, const register_values& old, checked_memory& memory,
           std::uintptr_t& result) noexcept {
    using kind = rule::kind;
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
    rule_reader reader{function, inside};
    if (!reader.run())
        return false;
    const rules& found = reader.result();
    const rule::kind address = found.of[address_register].how;
    if (address == rule::kind::undefined || address == rule::kind::same)
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
