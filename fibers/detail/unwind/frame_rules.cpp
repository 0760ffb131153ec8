// Not instrumented: it runs in signal handlers.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/unwind/frame_rules.hpp>

namespace creel::detail {

namespace {

// Compilers remember one state at a time.
struct remembered_rules {
    std::array<frame_rules, 2> states;
    std::size_t count = 0;
};

// Executes the instructions up to the place of interest.
class rule_reader {
public:
    rule_reader(const frame_information& f, std::uintptr_t inside, frame_rules& result) noexcept
        : function_(f), inside_(inside), now_(result) {}

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
                set(low, register_rule::kind::saved_at, scaled(from.uleb()));
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
        using kind = register_rule::kind;
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
    void set(std::uint64_t number, register_rule::kind how, std::int64_t value) noexcept {
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
    frame_rules& now_;
    frame_rules at_start_;
    remembered_rules remembered_;
};

} // namespace

bool read_rules(const frame_information& function, std::uintptr_t inside,
                frame_rules& result) noexcept {
    return rule_reader{function, inside, result}.run();
}

} // namespace creel::detail
