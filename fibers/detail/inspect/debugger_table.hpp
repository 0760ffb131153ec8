// What a debugger needs to find the fibers of a program that has no debug information of creel: the
// offsets of the members that it reads, by name. tools/gdb/creel-gdb.py reads it, also in a core.
#pragma once

#include <cstdint>

namespace creel::detail {

class scheduler;

// The script is older or younger than the library only if it was not taken from the program. It
// refuses a version that it does not know. A new entry needs no new version; a new meaning does.
struct debugger_table {
    static constexpr std::uint32_t this_version = 1;

    struct entry {
        char name[24];
        std::uint64_t value; // an offset in bytes, or what the name says
    };

    std::uint32_t version;
    std::uint32_t entry_count;
    const entry* entries;
    const scheduler* const* all_schedulers; // the first that was ever made
};

} // namespace creel::detail

extern "C" const creel::detail::debugger_table creel_debugger_table;

namespace creel::detail {

// A program that calls it has the table, whatever its linker drops. Cost: an instruction.
inline void keep_debugger_table() noexcept {
    asm volatile("" : : "r"(&creel_debugger_table));
}

} // namespace creel::detail
