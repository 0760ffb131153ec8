// The functions of libdw that creel calls. They have the types of libdw's headers, and are found by
// name when the library is loaded, so that no program links it.
#pragma once

#if __has_include(<elfutils/libdwfl.h>) && __has_include(<dwarf.h>)
#define CREEL_KNOWS_LIBDW 1
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#else
#define CREEL_KNOWS_LIBDW 0
#endif

namespace creel::detail {

#if CREEL_KNOWS_LIBDW

struct libdw_functions {
    decltype(&::dwfl_begin) begin;
    decltype(&::dwfl_end) end;
    decltype(&::dwfl_report_begin) report_begin;
    decltype(&::dwfl_report_end) report_end;
    decltype(&::dwfl_linux_proc_report) linux_proc_report;
    decltype(&::dwfl_addrmodule) addrmodule;
    decltype(&::dwfl_module_addrinfo) module_addrinfo;
    decltype(&::dwfl_module_addrdie) module_addrdie;
    decltype(&::dwfl_module_getdwarf) module_getdwarf;
    decltype(&::dwfl_module_nextcu) module_nextcu;
    decltype(&::dwarf_attr) attr;
    decltype(&::dwarf_attr_integrate) attr_integrate;
    decltype(&::dwarf_diename) diename;
    decltype(&::dwarf_dieoffset) dieoffset;
    decltype(&::dwarf_filesrc) filesrc;
    decltype(&::dwarf_formref_die) formref_die;
    decltype(&::dwarf_formstring) formstring;
    decltype(&::dwarf_formudata) formudata;
    decltype(&::dwarf_getscopes) getscopes;
    decltype(&::dwarf_getscopes_die) getscopes_die;
    decltype(&::dwarf_getsrc_die) getsrc_die;
    decltype(&::dwarf_getsrcfiles) getsrcfiles;
    decltype(&::dwarf_ranges) ranges;
    decltype(&::dwarf_lineno) lineno;
    decltype(&::dwarf_linesrc) linesrc;
    decltype(&::dwarf_offdie) offdie;
    decltype(&::dwarf_tag) tag;
    ::Dwfl_Callbacks callbacks;
};

// Loads libdw at the first call, and never unloads it. Returns null if it is not there.
[[nodiscard]] const libdw_functions* libdw();

#endif

} // namespace creel::detail
