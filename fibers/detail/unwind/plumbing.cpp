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
// In these, all but what has creel's namespace in its name: headers, as a program includes them,
// and the sources of what lies between main() and the function given to io::run.
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

bool is_in_plumbing_file(const std::string& file, bool has_creels_name) {
    if (file.empty())
        return false;
    const std::string path = '/' + file; // it may be relative
    const auto contains = [&path](std::string_view part) {
        return path.find(part) != std::string::npos;
    };
    if (std::any_of(plumbing_folders.begin(), plumbing_folders.end(), contains))
        return true;
    return !has_creels_name &&
           (std::any_of(folders_of_creel.begin(), folders_of_creel.end(), contains) ||
            std::any_of(sources_of_run.begin(), sources_of_run.end(),
                        [&path](std::string_view end) { return path.ends_with(end); }));
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
           is_in_plumbing_file(place.file, name.starts_with("creel::"));
}

} // namespace creel::detail
