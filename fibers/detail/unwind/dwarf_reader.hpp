// Reads the numbers of DWARF from a range of bytes. Behind the end of the range everything is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace creel::detail {

class dwarf_reader {
public:
    dwarf_reader() = default;
    dwarf_reader(const void* begin, std::size_t bytes) noexcept
        : at_(static_cast<const std::uint8_t*>(begin)), end_(at_ + bytes) {}

    [[nodiscard]] bool at_end() const noexcept { return at_ == end_; }
    [[nodiscard]] bool failed() const noexcept { return failed_; } // it was read beyond the end
    [[nodiscard]] const std::uint8_t* at() const noexcept { return at_; }
    [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }

    template <typename Number>
    Number fixed() noexcept {
        Number result{};
        if (left() < sizeof result) {
            fail();
            return result;
        }
        std::memcpy(&result, at_, sizeof result);
        at_ += sizeof result;
        return result;
    }
    std::uint8_t byte() noexcept { return fixed<std::uint8_t>(); }

    std::uint64_t uleb() noexcept {
        int bits = 0;
        return leb(bits);
    }
    std::int64_t sleb() noexcept {
        int bits = 0;
        const std::uint64_t result = leb(bits);
        const bool negative = bits < 64 && (result >> (bits - 1) & 1) != 0;
        return static_cast<std::int64_t>(negative ? result | ~std::uint64_t{0} << bits : result);
    }

    // Returns the next bytes as a range of their own.
    dwarf_reader block(std::uint64_t bytes) noexcept {
        if (left() < bytes) {
            fail();
            return {};
        }
        const dwarf_reader result{at_, bytes};
        at_ += bytes;
        return result;
    }

private:
    std::uint64_t leb(int& bits) noexcept {
        std::uint64_t result = 0;
        for (;;) {
            const std::uint8_t next = byte();
            if (bits < 64)
                result |= std::uint64_t{next & 0x7fu} << bits;
            bits += 7;
            if ((next & 0x80) == 0)
                return result;
        }
    }
    void fail() noexcept {
        at_ = end_;
        failed_ = true;
    }

    const std::uint8_t* at_ = nullptr;
    const std::uint8_t* end_ = nullptr;
    bool failed_ = false;
};

} // namespace creel::detail
