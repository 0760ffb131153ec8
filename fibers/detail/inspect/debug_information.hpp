// The part of code_names that calls libdw.
#pragma once

#include <creel/fibers/detail/inspect/symbols.hpp>

#if __has_include(<elfutils/libdwfl.h>) && __has_include(<dwarf.h>)
#define CREEL_KNOWS_LIBDW 1
#else
#define CREEL_KNOWS_LIBDW 0
#endif

namespace creel::detail {

#if CREEL_KNOWS_LIBDW
struct libdw_functions;
#endif

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
    debug_information(const libdw_functions& functions, void* session) noexcept
        : dw_(functions), session_(session) {}

    const libdw_functions& dw_;
    void* session_; // a Dwfl
#endif
};

} // namespace creel::detail
