// Not instrumented: it runs in signal handlers.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/unwind/frame_expression.hpp>

namespace creel::detail {

namespace {

// The stack of an expression. After a fault everything is 0, and nothing more is pushed.
class operands {
public:
    void push(std::uintptr_t value) noexcept {
        if (count_ == values_.size())
            failed_ = true;
        else
            values_[count_++] = value;
    }
    std::uintptr_t pop() noexcept {
        if (count_ == 0) {
            failed_ = true;
            return 0;
        }
        return values_[--count_];
    }
    [[nodiscard]] bool failed() const noexcept { return failed_; }

private:
    std::array<std::uintptr_t, 16> values_{};
    std::size_t count_ = 0;
    bool failed_ = false;
};

// The operations with two operands. Returns false if it is none.
bool calculate(std::uint8_t code, operands& stack) noexcept {
    const std::uintptr_t b = stack.pop();
    const std::uintptr_t a = stack.pop();
    const auto sa = static_cast<std::intptr_t>(a);
    const auto sb = static_cast<std::intptr_t>(b);
    switch (code) {
    case 0x1a: // and
        stack.push(a & b);
        return true;
    case 0x1c: // minus
        stack.push(a - b);
        return true;
    case 0x1e: // mul
        stack.push(a * b);
        return true;
    case 0x21: // or
        stack.push(a | b);
        return true;
    case 0x22: // plus
        stack.push(a + b);
        return true;
    case 0x24: // shl
        stack.push(b < 64 ? a << b : 0);
        return true;
    case 0x25: // shr
        stack.push(b < 64 ? a >> b : 0);
        return true;
    case 0x27: // xor
        stack.push(a ^ b);
        return true;
    case 0x29: // eq
        stack.push(a == b ? 1 : 0);
        return true;
    case 0x2a: // ge
        stack.push(sa >= sb ? 1 : 0);
        return true;
    case 0x2b: // gt
        stack.push(sa > sb ? 1 : 0);
        return true;
    case 0x2c: // le
        stack.push(sa <= sb ? 1 : 0);
        return true;
    case 0x2d: // lt
        stack.push(sa < sb ? 1 : 0);
        return true;
    case 0x2e: // ne
        stack.push(a != b ? 1 : 0);
        return true;
    default:
        return false;
    }
}

} // namespace

bool evaluate(dwarf_reader expression, const std::uintptr_t* first,
              const register_values& registers, checked_memory& memory,
              std::uintptr_t& result) noexcept {
    operands stack;
    if (first != nullptr)
        stack.push(*first);
    while (!expression.at_end()) {
        const std::uint8_t code = expression.byte();
        if (code >= 0x30 && code <= 0x4f) { // lit0 ...
            stack.push(code - 0x30u);
            continue;
        }
        if (code >= 0x70 && code <= 0x8f) { // breg0 ...
            const unsigned number = code - 0x70u;
            const std::int64_t offset = expression.sleb();
            if (number >= register_count)
                return false;
            stack.push(registers.of[number] + static_cast<std::uintptr_t>(offset));
            continue;
        }
        switch (code) {
        case 0x06: { // deref
            std::uintptr_t word = 0;
            if (!memory.read(stack.pop(), word))
                return false;
            stack.push(word);
            break;
        }
        case 0x08: // const1u
            stack.push(expression.byte());
            break;
        case 0x09: // const1s
            stack.push(static_cast<std::uintptr_t>(std::int64_t{expression.fixed<std::int8_t>()}));
            break;
        case 0x0a: // const2u
            stack.push(expression.fixed<std::uint16_t>());
            break;
        case 0x0b: // const2s
            stack.push(static_cast<std::uintptr_t>(std::int64_t{expression.fixed<std::int16_t>()}));
            break;
        case 0x10: // constu
            stack.push(expression.uleb());
            break;
        case 0x11: // consts
            stack.push(static_cast<std::uintptr_t>(expression.sleb()));
            break;
        case 0x12: { // dup
            const std::uintptr_t top = stack.pop();
            stack.push(top);
            stack.push(top);
            break;
        }
        case 0x23: // plus_uconst
            stack.push(stack.pop() + expression.uleb());
            break;
        case 0x96: // nop
            break;
        default:
            if (!calculate(code, stack))
                return false;
            break;
        }
    }
    result = stack.pop();
    return !stack.failed() && !expression.failed();
}

} // namespace creel::detail
