// The part of code_names that calls libdw.
#pragma once

#include <creel/fibers/detail/unwind/libdw.hpp>
#include <creel/fibers/detail/unwind/symbols.hpp>
#include <creel/fibers/detail/unwind/unit_ranges.hpp>

#include <unordered_map>

namespace creel::detail {

// The name as people write it: `creel::park()`. Any other text stays as it is.
[[nodiscard]] std::string demangled(const char* name);

class code_names::debug_information {
public:
    // Null if libdw is not there.
    static std::unique_ptr<debug_information> open();

    ~debug_information();
    debug_information(const debug_information&) = delete;
    debug_information& operator=(const debug_information&) = delete;

    // Looks again which modules are loaded.
    void update();

    // Adds the places of an address. Adds none if it knows no more than the dynamic linker.
    void add(std::uintptr_t address, std::vector<code_place>& places) const;

private:
#if CREEL_KNOWS_LIBDW
    debug_information(const libdw_functions& functions, ::Dwfl* session) noexcept
        : dw_(functions), session_(session) {}

    const libdw_functions& dw_;
    ::Dwfl* session_;
    mutable std::unordered_map<const ::Dwfl_Module*, unit_ranges> ranges_{}; // those asked for
#endif
};

} // namespace creel::detail
