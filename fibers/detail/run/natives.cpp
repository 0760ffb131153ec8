#include <creel/fibers/detail/run/natives.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>

namespace creel::detail {

void natives::look_outwards(spread_work& work) noexcept {
    if (!work.look(scope_))
        return;
    for (auto& [c, f] : records_)
        work.look_inwards(f, f.outermost);
}

void natives::hang_under(scope_core* outermost_of_main) noexcept {
    scope_.hang_under(outermost_of_main);
    spread_work work;
    look_outwards(work);
    work.run();
}

bool natives::are_inside() const noexcept {
    for (const auto& [c, f] : records_)
        if (f.waiting_on != nullptr || f.outermost != nullptr)
            return true;
    return false;
}

void natives::forget_ended() noexcept {
    records_.forget_ended([](fiber_record& ended) { drop_sanitizer_state(ended); });
}

void natives::forget_all() noexcept {
    forget_ended();
    for (auto& [c, f] : records_)
        drop_sanitizer_state(f);
    records_.clear();
}

} // namespace creel::detail
