#include <creel/fibers/detail/unwind/unit_ranges.hpp>

#if CREEL_KNOWS_LIBDW

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace creel::detail {

unit_ranges::unit_ranges(const libdw_functions& dw, ::Dwfl_Module& module) {
    for (::Dwarf_Die* unit = nullptr;
         (unit = dw.module_nextcu(&module, unit, &bias_)) != nullptr;) {
        ::Dwarf_Addr base = 0;
        range found{0, 0, unit};
        for (std::ptrdiff_t at = 0; (at = dw.ranges(unit, at, &base, &found.low, &found.high)) > 0;)
            sorted_.push_back(found);
    }
    std::sort(sorted_.begin(), sorted_.end(),
              [](const range& a, const range& b) { return a.low < b.low; });
}

::Dwarf_Die* unit_ranges::unit_of(::Dwarf_Addr address, ::Dwarf_Addr& bias) const noexcept {
    const ::Dwarf_Addr in_file = address - bias_;
    const auto above =
        std::upper_bound(sorted_.begin(), sorted_.end(), in_file,
                         [](::Dwarf_Addr wanted, const range& r) { return wanted < r.low; });
    if (above == sorted_.begin() || in_file >= std::prev(above)->high)
        return nullptr;
    bias = bias_;
    return std::prev(above)->unit;
}

} // namespace creel::detail

#endif
