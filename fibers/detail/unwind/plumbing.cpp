#include <creel/fibers/detail/unwind/symbols.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace creel::detail {

namespace {

// How the names of such functions begin, with their namespaces and without their result.
constexpr std::array<std::string_view, 23> plumbing_prefixes{
    "creel::(anonymous namespace)::",
    "creel::detail::",
    "creel::entry_point::",
    "creel::io::detail::",
    "creel::list_waiter::",
    "creel::park",
    "creel::root_main<",
    "creel::sync::detail::",
    "creel::waiter::",
    "creel::wait_list::",
    "boost::context::",
    "boost::fibers::detail::",
    "boost::fibers::context::",
    "boost::fibers::worker_context<",
    "boost::fibers::wait_queue::",
    "std::__",
    "std::_Bind<",
    "std::_Function_handler<",
    "std::apply<",
    "std::function<",
    "std::invoke<",
    "__invoke",     // from debug information without namespaces
    "__libc_start", // below main()
};

// The names without namespaces, of assembly and of what little debug information names so.
constexpr std::array<std::string_view, 6> plumbing_names{
    "_start", "fiber_entry", "jump_fcontext", "make_fcontext", "ontop_fcontext", "trampoline",
};

// With little debug information (-g1) a function that was inlined has no namespaces: `invoke<...>`,
// `operator()`. Then the file tells. In these folders all is plumbing.
constexpr std::array<std::string_view, 5> plumbing_folders{
    "/include/c++/", "/boost/", "/fibers/detail/", "/io/detail/", "/sync/detail/",
};
// These are creel's: its headers, as a program includes them, and the sources of what lies between
// main() and the function given to io::run.
constexpr std::array<std::string_view, 3> folders_of_creel{
    "/creel/fibers/",
    "/creel/io/",
    "/creel/sync/",
};
constexpr std::array<std::string_view, 3> sources_of_run{
    "/fibers/entry_point.cpp",
    "/fibers/scheduler.cpp",
    "/io/run.cpp",
};

// The path may be relative.
bool has_folder(const std::string& path, std::string_view folder) {
    return ('/' + path).find(folder) != std::string::npos;
}

bool is_in_plumbing_folder(const std::string& file) {
    return std::any_of(plumbing_folders.begin(), plumbing_folders.end(),
                       [&file](std::string_view folder) { return has_folder(file, folder); });
}

bool is_in_creels_file(const std::string& file) {
    return std::any_of(folders_of_creel.begin(), folders_of_creel.end(),
                       [&file](std::string_view folder) { return has_folder(file, folder); }) ||
           std::any_of(sources_of_run.begin(), sources_of_run.end(),
                       [&file](std::string_view end) { return ('/' + file).ends_with(end); });
}

// A template's name as the demangler writes it begins with its result: `void std::__invoke<...>`,
// or `decltype(auto) std::apply<...>`.
// The name itself begins behind the last space that stands outside of all brackets and before the
// parameters.
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

bool is_plumbing(const code_place& place) {
    const std::string_view name = without_result(place.function);
    return std::any_of(plumbing_prefixes.begin(), plumbing_prefixes.end(),
                       [name](std::string_view p) { return name.starts_with(p); }) ||
           std::find(plumbing_names.begin(), plumbing_names.end(), name) != plumbing_names.end() ||
           is_in_plumbing_folder(place.file) ||
           (!name.starts_with("creel::") && is_in_creels_file(place.file));
}

code_owner owner_of(const code_place& place) {
    const std::string_view name = without_result(place.function);
    if (name.starts_with("creel::") || is_in_creels_file(place.file) ||
        has_folder(place.file, "/fibers/detail/") || has_folder(place.file, "/io/detail/") ||
        has_folder(place.file, "/sync/detail/"))
        return code_owner::creel;
    if (name.starts_with("boost::fibers::") && !is_plumbing(place))
        return code_owner::creel; // a program calls it as it calls creel
    if (is_plumbing(place) || name.starts_with("boost::") || name.starts_with("std::"))
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
