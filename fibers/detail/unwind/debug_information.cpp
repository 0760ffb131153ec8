#include <creel/fibers/detail/unwind/debug_information.hpp>

#include <creel/fibers/detail/unwind/libdw.hpp>

#include <cstdlib>
#include <unordered_map>

#include <cxxabi.h>
#include <unistd.h>

namespace creel::detail {

namespace {

struct free_memory {
    void operator()(void* p) const noexcept { std::free(p); }
};

} // namespace

std::string demangled(const char* name) {
    int status = 0;
    const std::unique_ptr<char, free_memory> text{
        abi::__cxa_demangle(name, nullptr, nullptr, &status)};
    return status == 0 ? text.get() : name;
}

#if CREEL_KNOWS_LIBDW

namespace {

// The scopes that contain something, from the inside.
class scope_list {
public:
    scope_list(int count, ::Dwarf_Die* scopes) noexcept
        : scopes_(scopes), count_(count > 0 ? static_cast<std::size_t>(count) : 0) {}

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] ::Dwarf_Die& operator[](std::size_t i) const noexcept { return scopes_.get()[i]; }

private:
    std::unique_ptr<::Dwarf_Die, free_memory> scopes_;
    std::size_t count_;
};

// Looks up one address.
class address_lookup {
public:
    using ranges_of_modules = std::unordered_map<const ::Dwfl_Module*, unit_ranges>;

    address_lookup(const libdw_functions& dw, ::Dwfl_Module& module, ranges_of_modules& ranges,
                   std::uintptr_t address) noexcept
        : dw_(dw), module_(module), ranges_(ranges), address_(address) {}

    void add_to(std::vector<code_place>& places) const {
        const std::size_t first = places.size();
        code_place here;
        ::Dwarf_Addr offset = address_;
        if (const char* symbol = symbol_of(offset))
            here.function = demangled(symbol);
        ::Dwarf_Addr bias = 0;
        if (::Dwarf_Die* unit = unit_of_address(bias)) {
            if (::Dwarf_Line* line = dw_.getsrc_die(unit, address_ - bias)) {
                if (const char* file = dw_.linesrc(line, nullptr, nullptr))
                    here.file = file;
                int number = 0;
                if (dw_.lineno(line, &number) == 0)
                    here.line = static_cast<unsigned>(number);
            }
            add_inlined(*unit, address_ - bias, here, places);
        }
        if (!here.function.empty() || !here.file.empty() || places.size() > first)
            places.push_back(std::move(here));
    }

private:
    // The symbol whose range contains the address, and none that only lies before it.
    const char* symbol_of(::Dwarf_Addr& offset) const {
        ::GElf_Sym symbol{};
        ::GElf_Word section = 0;
        const char* const name =
            dw_.module_addrinfo(&module_, address_, &offset, &symbol, &section, nullptr, nullptr);
        return name != nullptr && (symbol.st_size == 0 || offset < symbol.st_size) ? name : nullptr;
    }

    // The source file, as it was compiled.
    ::Dwarf_Die* unit_of_address(::Dwarf_Addr& bias) const {
        ::Dwarf_Die* const unit = dw_.module_addrdie(&module_, address_, &bias);
        if (unit != nullptr)
            return unit;
        return ranges_.try_emplace(&module_, dw_, module_).first->second.unit_of(address_, bias);
    }

    // Adds the inlined functions. Then `here` is the function into which they are inlined.
    void add_inlined(::Dwarf_Die& unit, ::Dwarf_Addr address, code_place& here,
                     std::vector<code_place>& places) const {
        const scope_list scopes = scopes_at(unit, address);
        ::Dwarf_Files* files = nullptr;
        std::size_t file_count = 0;
        if (dw_.getsrcfiles(&unit, &files, &file_count) != 0)
            files = nullptr;
        for (std::size_t i = 0; i < scopes.size(); ++i) {
            ::Dwarf_Die& scope = scopes[i];
            const int tag = dw_.tag(&scope);
            if (tag == DW_TAG_inlined_subroutine) {
                code_place inlined = here;
                inlined.function = name_of(scope);
                inlined.is_inlined = true;
                places.push_back(std::move(inlined));
                here.line = static_cast<unsigned>(number_of(scope, DW_AT_call_line));
                const ::Dwarf_Word file = number_of(scope, DW_AT_call_file);
                const char* const name =
                    files != nullptr ? dw_.filesrc(files, file, nullptr, nullptr) : nullptr;
                here.file = name != nullptr ? name : "";
            } else if (tag == DW_TAG_subprogram) {
                // The symbol says it in full, but a local function may have none.
                if (here.function.empty() || has_linkage_name(scope))
                    here.function = name_of(scope);
                return;
            }
        }
    }

    // From the innermost scope of the address to its function. dwarf_getscopes() goes on with the
    // scopes in which an inlined function was written, and not with the one into which it is
    // inlined.
    [[nodiscard]] scope_list scopes_at(::Dwarf_Die& unit, ::Dwarf_Addr address) const {
        ::Dwarf_Die* found = nullptr;
        const int count = dw_.getscopes(&unit, address, &found);
        const scope_list scopes{count, found};
        if (scopes.size() == 0)
            return {0, nullptr};
        ::Dwarf_Addr bias = 0;
        ::Dwarf_Die innermost;
        if (dw_.offdie(dw_.module_getdwarf(&module_, &bias), dw_.dieoffset(&scopes[0]),
                       &innermost) == nullptr)
            return {0, nullptr};
        ::Dwarf_Die* around = nullptr;
        const int around_count = dw_.getscopes_die(&innermost, &around);
        return {around_count, around};
    }

    const char* linkage_name(::Dwarf_Die& die) const {
        ::Dwarf_Attribute attribute;
        for (const unsigned name : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name})
            if (dw_.attr_integrate(&die, name, &attribute) != nullptr)
                return dw_.formstring(&attribute);
        return nullptr;
    }
    bool has_linkage_name(::Dwarf_Die& die) const { return linkage_name(die) != nullptr; }

    std::string name_of(::Dwarf_Die& die) const {
        const char* const name = linkage_name(die);
        return name != nullptr ? demangled(name) : qualified_name(die);
    }

    // A function that cannot be called from elsewhere, as that of a lambda, has no linkage name. It
    // is named by the scopes in which it was declared.
    std::string qualified_name(::Dwarf_Die& die) const {
        ::Dwarf_Die declared = die;
        for (const unsigned to : {DW_AT_abstract_origin, DW_AT_specification}) {
            ::Dwarf_Attribute attribute;
            ::Dwarf_Die next;
            if (dw_.attr(&declared, to, &attribute) != nullptr &&
                dw_.formref_die(&attribute, &next) != nullptr)
                declared = next;
        }
        ::Dwarf_Die* found = nullptr;
        const int count = dw_.getscopes_die(&declared, &found);
        const scope_list scopes{count, found};
        const char* const name = dw_.diename(&die);
        std::string result = name != nullptr ? name : "";
        for (std::size_t i = 1; i < scopes.size(); ++i) {
            const int tag = dw_.tag(&scopes[i]);
            const char* const around = dw_.diename(&scopes[i]);
            if (tag == DW_TAG_namespace || tag == DW_TAG_class_type ||
                tag == DW_TAG_structure_type || tag == DW_TAG_union_type ||
                tag == DW_TAG_subprogram)
                result.insert(0, std::string{around != nullptr ? around : unnamed(tag)} + "::");
        }
        return result;
    }

    static const char* unnamed(int tag) noexcept {
        return tag == DW_TAG_namespace ? "(anonymous namespace)" : "(anonymous class)";
    }

    ::Dwarf_Word number_of(::Dwarf_Die& die, unsigned name) const {
        ::Dwarf_Attribute attribute;
        ::Dwarf_Word value = 0;
        if (dw_.formudata(dw_.attr(&die, name, &attribute), &value) != 0)
            return 0;
        return value;
    }

    const libdw_functions& dw_;
    ::Dwfl_Module& module_;
    ranges_of_modules& ranges_;
    const std::uintptr_t address_;
};

} // namespace

std::unique_ptr<code_names::debug_information> code_names::debug_information::open() {
    const libdw_functions* const dw = libdw();
    if (dw == nullptr)
        return nullptr;
    ::Dwfl* const session = dw->begin(&dw->callbacks);
    if (session == nullptr)
        return nullptr;
    return std::unique_ptr<debug_information>{new debug_information{*dw, session}};
}

code_names::debug_information::~debug_information() {
    dw_.end(session_);
}

void code_names::debug_information::update() {
    ranges_.clear();            // modules may go
    dw_.report_begin(session_); // keeps what it has read of modules that are still there
    dw_.linux_proc_report(session_, ::getpid());
    dw_.report_end(session_, nullptr, nullptr);
}

void code_names::debug_information::add(std::uintptr_t address,
                                        std::vector<code_place>& places) const {
    if (::Dwfl_Module* module = dw_.addrmodule(session_, address))
        address_lookup{dw_, *module, ranges_, address}.add_to(places);
}

#else

std::unique_ptr<code_names::debug_information> code_names::debug_information::open() {
    return nullptr;
}

code_names::debug_information::~debug_information() = default;

void code_names::debug_information::update() {}

void code_names::debug_information::add(std::uintptr_t, std::vector<code_place>&) const {}

#endif

} // namespace creel::detail
