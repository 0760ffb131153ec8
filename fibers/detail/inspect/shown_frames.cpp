#include <creel/fibers/detail/inspect/shown_frames.hpp>

#include <optional>
#include <utility>

namespace creel::detail {

std::vector<shown_frame> shown_frames(const std::vector<code_address>& frames, code_names& names,
                                      bool all) {
    std::vector<shown_frame> every;
    for (const code_address& address : frames)
        for (const code_place& place : names.of(address))
            every.push_back({address, place});
    if (all)
        return every;
    std::vector<shown_frame> shown;
    std::optional<shown_frame> called; // of creel, by the program's function that comes next
    for (const shown_frame& f : every) {
        switch (owner_of(f.place)) {
        case code_owner::program:
            if (called)
                shown.push_back(*std::exchange(called, std::nullopt));
            shown.push_back(f);
            break;
        case code_owner::creel:
            called = f;
            break;
        case code_owner::other:
            break;
        }
    }
    return shown.empty() ? every : shown;
}

} // namespace creel::detail
