// Not instrumented: it runs in signal handlers.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/unwind/frame_table.hpp>

#include <creel/fibers/detail/unwind/machine.hpp>

namespace creel::detail {

#if CREEL_CAN_UNWIND

namespace {

// How a pointer is written (Linux Standard Base, "DWARF Exception Header Encoding"): its size and
// sign in the low four bits, and above them what it is relative to.
namespace encoding {
constexpr unsigned size_bits = 0x0f;
constexpr unsigned address = 0x00;
constexpr unsigned two_bytes = 0x02;
constexpr unsigned four_bytes = 0x03;
constexpr unsigned eight_bytes = 0x04;
constexpr unsigned is_signed = 0x08;
constexpr unsigned relative_bits = 0x70;
constexpr unsigned to_itself = 0x10;
constexpr unsigned to_table = 0x30;
} // namespace encoding

std::uintptr_t address_of(const void* p) noexcept {
    return reinterpret_cast<std::uintptr_t>(p);
}

// Reads a pointer. Leaves `known` as it is, or sets it to false.
std::uintptr_t read_pointer(dwarf_reader& from, unsigned how, bool& known) noexcept {
    const std::uintptr_t itself = address_of(from.at());
    std::uintptr_t result = 0;
    switch (how & encoding::size_bits) {
    case encoding::address:
    case encoding::eight_bytes:
    case encoding::eight_bytes | encoding::is_signed:
        result = from.fixed<std::uint64_t>();
        break;
    case encoding::two_bytes:
        result = from.fixed<std::uint16_t>();
        break;
    case encoding::two_bytes | encoding::is_signed:
        result = static_cast<std::uintptr_t>(std::int64_t{from.fixed<std::int16_t>()});
        break;
    case encoding::four_bytes:
        result = from.fixed<std::uint32_t>();
        break;
    case encoding::four_bytes | encoding::is_signed:
        result = static_cast<std::uintptr_t>(std::int64_t{from.fixed<std::int32_t>()});
        break;
    default:
        known = false;
        break;
    }
    switch (how & encoding::relative_bits) {
    case 0:
        return result;
    case encoding::to_itself:
        return itself + result;
    default:
        known = false;
        return 0;
    }
}

// One length and what it counts: a "common information entry" (CIE) or, for one function, a "frame
// description entry" (FDE).
dwarf_reader entry_at(const std::uint8_t* start) noexcept {
    constexpr std::uint32_t more_than_4_gib = 0xffff'ffff;
    dwarf_reader length{start, sizeof(std::uint32_t)};
    const auto bytes = length.fixed<std::uint32_t>();
    return bytes == more_than_4_gib ? dwarf_reader{} : dwarf_reader{length.at(), bytes};
}

// Reads the CIE. Sets how the pointers of its FDEs are written.
bool read_common(const std::uint8_t* start, unsigned& pointers,
                 frame_information& result) noexcept {
    dwarf_reader entry = entry_at(start);
    entry.fixed<std::uint32_t>(); // 0: it is a CIE
    const std::uint8_t version = entry.byte();
    const char* letters = reinterpret_cast<const char*>(entry.at());
    while (entry.byte() != 0) {
    }
    if (entry.failed() || (version != 1 && version != 3) || *letters != 'z')
        return false;
    result.code_factor = entry.uleb();
    result.data_factor = entry.sleb();
    result.address_register = version == 1 ? entry.byte() : entry.uleb();
    dwarf_reader letters_say = entry.block(entry.uleb());
    bool known = true;
    for (++letters; *letters != '\0'; ++letters) {
        switch (*letters) {
        case 'R':
            pointers = letters_say.byte();
            break;
        case 'P': { // the function that handles exceptions
            const unsigned how = letters_say.byte();
            read_pointer(letters_say, how & encoding::size_bits, known);
            break;
        }
        case 'L': // where to find the handlers
            letters_say.byte();
            break;
        case 'S':
            result.of_signal = true;
            break;
        default:
            return false;
        }
    }
    result.common = entry;
    return known && !entry.failed() && !letters_say.failed();
}

bool read_entry(const std::uint8_t* start, std::uintptr_t address,
                frame_information& result) noexcept {
    dwarf_reader entry = entry_at(start);
    const std::uint8_t* const here = entry.at();
    const auto back = entry.fixed<std::uint32_t>();
    unsigned pointers = encoding::address;
    if (back == 0 || !read_common(here - back, pointers, result))
        return false;
    bool known = true;
    result.function = read_pointer(entry, pointers, known);
    const std::uintptr_t bytes = read_pointer(entry, pointers & encoding::size_bits, known);
    entry.block(entry.uleb());
    result.own = entry;
    return known && !entry.failed() && address - result.function < bytes;
}

// The table of .eh_frame_hdr: sorted pairs of a function and its FDE, relative to the table.
struct table_row {
    std::int32_t function;
    std::int32_t entry;
};

} // namespace

bool find_frame_information(std::uintptr_t address, frame_information& result) noexcept {
    dl_find_object object{};
    if (::_dl_find_object(reinterpret_cast<void*>(address), &object) != 0 ||
        object.dlfo_eh_frame == nullptr)
        return false;
    // All linkers write these encodings.
    constexpr unsigned relative = encoding::four_bytes | encoding::is_signed;
    struct header {
        std::uint8_t version;
        std::uint8_t pointer;
        std::uint8_t count;
        std::uint8_t rows;
        std::int32_t frames;
        std::uint32_t row_count;
    };
    const auto* const table = static_cast<const std::uint8_t*>(object.dlfo_eh_frame);
    header h;
    std::memcpy(&h, table, sizeof h);
    if (h.version != 1 || h.pointer != (relative | encoding::to_itself) ||
        h.count != encoding::four_bytes || h.rows != (relative | encoding::to_table))
        return false;

    const std::uint8_t* const rows = table + sizeof h;
    const auto row = [rows](std::size_t i) noexcept {
        table_row r;
        std::memcpy(&r, rows + i * sizeof r, sizeof r);
        return r;
    };
    const auto wanted = static_cast<std::int64_t>(address - address_of(table));
    std::size_t first_above = 0;
    for (std::size_t count = h.row_count; count > 0;) {
        const std::size_t half = count / 2;
        if (row(first_above + half).function <= wanted) {
            first_above += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first_above > 0 && read_entry(table + row(first_above - 1).entry, address, result);
}

#else

bool find_frame_information(std::uintptr_t, frame_information&) noexcept {
    return false;
}

#endif

} // namespace creel::detail
