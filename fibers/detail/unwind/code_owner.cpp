#include <creel/fibers/detail/unwind/symbols.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace creel::detail {

namespace {

// What a program does not call itself of the libraries below, and names without namespaces: of
// assembly, and of inlined functions where there is little debug information (-g1).
constexpr std::array<std::string_view, 15> names_of_libraries{
    "boost::",     "std::",          "__invoke",      "__libc_start",   "_start",
    "fiber_entry", "jump_fcontext",  "make_fcontext", "ontop_fcontext", "__cxa_",
    "_Unwind_",    "__interceptor_", "__gxx_",        "__cxxabiv1::",   "get_adjusted_ptr",
};
// Of Boost.Fiber a program calls what is in no such namespace or class.
constexpr std::array<std::string_view, 4> inner_names_of_boost_fiber{
    "boost::fibers::detail::",
    "boost::fibers::context::",
    "boost::fibers::worker_context<",
    "boost::fibers::wait_queue::",
};

// With little debug information an inlined function is `invoke<...>` or `operator()`. Then its file
// tells.
constexpr std::array<std::string_view, 2> folders_of_libraries{"/include/c++/", "/boost/"};
constexpr std::array<std::string_view, 2> runtimes{"/libstdc++.so", "/libgcc_s.so"};
constexpr std::array<std::string_view, 3> folders_of_creel{"/creel/fibers/", "/creel/io/",
                                                           "/creel/sync/"};
// A build of creel names its sources from the top of its tree. A program's compiler names sources
// by their whole paths, unless it is told otherwise. So these are compared from the beginning.
constexpr std::array<std::string_view, 6> sources_of_creel{
    "fibers/detail/",         "io/detail/",           "sync/detail/",
    "fibers/entry_point.cpp", "fibers/scheduler.cpp", "io/run.cpp",
};

template <typename Names>
bool begins_with_one(std::string_view text, const Names& names) noexcept {
    return std::any_of(names.begin(), names.end(),
                       [text](std::string_view n) { return text.starts_with(n); });
}

template <typename Folders>
bool is_in_one(std::string_view file, const Folders& folders) noexcept {
    return std::any_of(folders.begin(), folders.end(),
                       [file](std::string_view f) { return file.find(f) != file.npos; });
}

// A template's name as the demangler writes it begins with its result: `void std::__invoke<...>`,
// or `decltype(auto) std::apply<...>`. The name itself begins behind the last space that stands
// outside of all brackets and before the parameters.
std::string_view without_result(std::string_view name) noexcept {
    constexpr std::string_view deduced = "decltype(auto) ";
    if (name.starts_with(deduced))
        name.remove_prefix(deduced.size());
    int depth = 0;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < name.size(); ++i) {
        const char c = name[i];
        if (c == '<' || c == '{')
            ++depth;
        else if (c == '>' || c == '}')
            --depth;
        else if (c == '(' && depth == 0 && !name.substr(i).starts_with("(anonymous namespace)"))
            break;
        else if (c == ' ' && depth == 0 && !name.substr(0, i).ends_with("(anonymous"))
            begin = i + 1;
    }
    return name.substr(begin);
}

} // namespace

code_owner owner_of(const code_place& place) noexcept {
    const std::string_view name = without_result(place.function);
    if (name.starts_with("creel::detail::probing_type::"))
        return code_owner::other; // it looks at a throw, which did not call it
    if (name.starts_with("creel::") || is_in_one(place.file, folders_of_creel) ||
        begins_with_one(place.file, sources_of_creel))
        return code_owner::creel;
    if (name.starts_with("boost::fibers::") && !begins_with_one(name, inner_names_of_boost_fiber))
        return code_owner::creel; // a program calls it as it calls creel
    // What the C++ runtime does between a throw and its handler, or std::terminate.
    if (name.empty() && is_in_one(place.module, runtimes))
        return code_owner::other;
    if (begins_with_one(name, names_of_libraries) || name == "trampoline" ||
        is_in_one(place.file, folders_of_libraries))
        return code_owner::other;
    return code_owner::program;
}

std::string short_name(const std::string& function) {
    constexpr std::size_t longest_arguments = 24;
    std::string result;
    std::size_t begin = 0; // of the arguments that are open
    int depth = 0;
    for (std::size_t i = 0; i < function.size(); ++i) {
        const char c = function[i];
        const bool is_operator = std::string_view{result}.ends_with("operator") ||
                                 std::string_view{result}.ends_with("operator<") ||
                                 (c == '>' && result.ends_with('-'));
        result += c;
        if (c == '<' && !is_operator && depth++ == 0) {
            begin = result.size();
        } else if (c == '>' && !is_operator && depth > 0 && --depth == 0 &&
                   result.size() - begin > longest_arguments) {
            result.replace(begin, result.size() - begin - 1, "...");
        }
    }
    return result;
}

} // namespace creel::detail
