// Which source file of a module (a unit of its debug information) an address was compiled from.
//
// libdw looks into a table of the module, .debug_aranges. clang writes no such table, and libdw
// 0.188 finds no unit without it. This index is made of what the units themselves say.
#pragma once

#include <creel/fibers/detail/unwind/libdw.hpp>

#if CREEL_KNOWS_LIBDW

#include <vector>

namespace creel::detail {

// Threads: one at a time.
class unit_ranges {
public:
    // Reads the ranges of all units. Throws: std::bad_alloc.
    unit_ranges(const libdw_functions& dw, ::Dwfl_Module& module);

    // Null if no unit has the address. Sets the bias, by which the module's addresses differ from
    // those in its file. The unit lives as long as libdw's session.
    [[nodiscard]] ::Dwarf_Die* unit_of(::Dwarf_Addr address, ::Dwarf_Addr& bias) const noexcept;

private:
    struct range {
        ::Dwarf_Addr low;
        ::Dwarf_Addr high; // behind the last
        ::Dwarf_Die* unit;
    };
    std::vector<range> sorted_{}; // by `low`
    ::Dwarf_Addr bias_ = 0;
};

} // namespace creel::detail

#endif
