#include <creel/fibers/detail/unwind/symbols.hpp>

#include <algorithm>
#include <array>
#include <string_view>

namespace creel::detail {

namespace {

// How the names of such functions begin, with their namespaces and without their result.
constexpr std::array<std::string_view, 16> plumbing_prefixes{
    "creel::detail::",
    "creel::park",
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
    "__invoke", // from debug information without namespaces
};

// The names without namespaces, of assembly and of what little debug information names so.
constexpr std::array<std::string_view, 5> plumbing_names{
    "jump_fcontext", "ontop_fcontext", "make_fcontext", "trampoline", "fiber_entry",
};

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

bool is_plumbing(const code_place& place) noexcept {
    const std::string_view name = without_result(place.function);
    return std::any_of(plumbing_prefixes.begin(), plumbing_prefixes.end(),
                       [name](std::string_view p) { return name.starts_with(p); }) ||
           std::find(plumbing_names.begin(), plumbing_names.end(), name) != plumbing_names.end();
}

} // namespace creel::detail
