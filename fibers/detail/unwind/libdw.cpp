#include <creel/fibers/detail/unwind/libdw.hpp>

#if CREEL_KNOWS_LIBDW

#include <cstring>
#include <optional>

#include <dlfcn.h>

namespace creel::detail {

namespace {

std::optional<libdw_functions> load_libdw() {
    // Not unloaded: it may have loaded libraries itself.
    void* const library = ::dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
        return std::nullopt;
    libdw_functions dw{};
    bool has_all = true;
    auto find = [&](auto& function, const char* name) {
        void* const symbol = ::dlsym(library, name);
        has_all = has_all && symbol != nullptr;
        std::memcpy(&function, &symbol, sizeof function);
    };
    find(dw.begin, "dwfl_begin");
    find(dw.end, "dwfl_end");
    find(dw.report_begin, "dwfl_report_begin");
    find(dw.report_end, "dwfl_report_end");
    find(dw.linux_proc_report, "dwfl_linux_proc_report");
    find(dw.addrmodule, "dwfl_addrmodule");
    find(dw.module_addrinfo, "dwfl_module_addrinfo");
    find(dw.module_addrdie, "dwfl_module_addrdie");
    find(dw.module_getdwarf, "dwfl_module_getdwarf");
    find(dw.module_nextcu, "dwfl_module_nextcu");
    find(dw.attr, "dwarf_attr");
    find(dw.attr_integrate, "dwarf_attr_integrate");
    find(dw.diename, "dwarf_diename");
    find(dw.dieoffset, "dwarf_dieoffset");
    find(dw.filesrc, "dwarf_filesrc");
    find(dw.formref_die, "dwarf_formref_die");
    find(dw.formstring, "dwarf_formstring");
    find(dw.formudata, "dwarf_formudata");
    find(dw.getscopes, "dwarf_getscopes");
    find(dw.getscopes_die, "dwarf_getscopes_die");
    find(dw.getsrc_die, "dwarf_getsrc_die");
    find(dw.getsrcfiles, "dwarf_getsrcfiles");
    find(dw.ranges, "dwarf_ranges");
    find(dw.lineno, "dwarf_lineno");
    find(dw.linesrc, "dwarf_linesrc");
    find(dw.offdie, "dwarf_offdie");
    find(dw.tag, "dwarf_tag");
    find(dw.callbacks.find_elf, "dwfl_linux_proc_find_elf");
    // By the build id, in /usr/lib/debug. The usual choice, dwfl_standard_find_debuginfo, asks the
    // servers of DEBUGINFOD_URLS for what is not there.
    find(dw.callbacks.find_debuginfo, "dwfl_build_id_find_debuginfo");
    return has_all ? std::optional{dw} : std::nullopt;
}

} // namespace

const libdw_functions* libdw() {
    static const std::optional<libdw_functions> loaded = load_libdw();
    return loaded ? &*loaded : nullptr;
}

} // namespace creel::detail

#endif
