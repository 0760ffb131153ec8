#include <creel/fibers/race.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/cancel/standing_reason.hpp>

#include <exception>
#include <utility>

namespace creel::detail {

namespace {
constinit standing_reason another_won{cancel_cause::requested, "another has won the race"};
const standing_reasons_made another_won_is_made{another_won};
} // namespace

void race_core::fail(std::exception_ptr error) noexcept {
    not_begun_ = true;
    core_.fail(std::move(error));
}

void race_core::win() noexcept {
    if (is_over())
        return;
    won_ = true;
    core_.forget_errors();
    core_of(core_.scope).request(cancel_request::now(another_won.get()));
}

void race_core::finish() {
    const bool absorbs = core_.settle();
    core_.throw_errors();
    if (won_)
        return; // also if the caller was cancelled meanwhile: the value comes first
    if (!absorbs)
        core_.throw_cancelled_members();
    core_.throw_absorbed();
}

} // namespace creel::detail
