#include <creel/sync/detail/select_core.hpp>

#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <limits>
#include <utility>

namespace creel::sync::detail {
namespace {

constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

// Chooses which case is tried next. Marsaglia's xorshift: cheap, and good enough that no case
// starves.
std::uint32_t random_number() noexcept {
    static thread_local std::uint32_t state = 2463534242U;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

std::size_t random_below(std::size_t n) noexcept {
    return static_cast<std::size_t>((std::uint64_t{random_number()} * n) >> 32);
}

// The cases in the order in which they are looked at, drawn only as far as needed.
class draw {
public:
    draw(std::span<select_case* const> cases, select_order order) noexcept
        : cases_(cases), fair_(order == select_order::fair) {
        for (std::size_t i = 0; fair_ && i < cases.size(); ++i)
            places_[i] = static_cast<std::uint8_t>(i);
    }
    // The i-th case, for growing i.
    std::size_t operator()(std::size_t i) noexcept {
        if (!fair_)
            return i;
        std::swap(places_[i], places_[i + random_below(cases_.size() - i)]);
        return places_[i];
    }

private:
    std::span<select_case* const> cases_;
    std::array<std::uint8_t, most_cases> places_;
    bool fair_;
};

// However wait_for_one() is left, no node stays in a list.
struct enrolled {
    std::span<select_case* const> cases;
    ~enrolled() {
        for (select_case* c : cases)
            if (c->node != nullptr)
                c->kind->withdraw(*c);
    }
};

std::size_t earliest(std::span<select_case* const> cases) noexcept {
    std::size_t first = none;
    for (std::size_t i = 0; i < cases.size(); ++i)
        if (cases[i]->deadline != time_point::max() &&
            (first == none || cases[i]->deadline < cases[first]->deadline))
            first = i;
    return first;
}

// Parks at all cases. `none`: to be tried anew.
std::size_t wait_for_one(std::span<select_case* const> cases, draw& order) {
    select_waiter me{cases};
    enrolled all{cases};
    for (std::size_t i = 0; i < cases.size(); ++i) {
        const std::size_t at = order(i);
        switch (cases[at]->kind->enroll(*cases[at], me)) {
        case enrolment::waiting:
            continue;
        case enrolment::done:
            return at;
        case enrolment::again:
            return none;
        case enrolment::taken:
            break;
        }
        break;
    }
    const std::size_t timer = earliest(cases);
    const wake_reason reason =
        timer == none ? park(me) : park_until(me, cases[timer]->deadline, cases[timer]->span);
    if (reason == wake_reason::cancelled)
        throw_cancelled();
    if (reason == wake_reason::timed_out)
        return timer;
    for (std::size_t i = 0; i < cases.size(); ++i)
        if (cases[i]->node != nullptr && cases[i]->node == me.claim.winner())
            return cases[i]->kind->happened(*cases[i]) ? i : none;
    return none; // not reached: only a node of this select can win
}

} // namespace

constinit const waiter_kind select_waiter::kind{
    &select_waiter::withdraw, &select_waiter::describe, true, false, nullptr, nullptr, false, true};

// A cancel or the timer is one more party that claims. `enrolled` takes the nodes off their lists
// afterwards.
withdrawal select_waiter::withdraw(waiter& w, wake_reason) noexcept {
    return static_cast<select_waiter&>(w).claim.try_claim(nullptr) ? withdrawal::withdrawn
                                                                   : withdrawal::pending;
}

void select_waiter::describe(const waiter& w, std::string& text) {
    const char* between = "the first of ";
    for (select_case* c : static_cast<const select_waiter&>(w).cases) {
        text += between;
        c->kind->describe(*c, text);
        between = ", ";
    }
}

std::size_t select_one(std::span<select_case* const> cases, select_order order) {
    check_cancel();
    for (;;) {
        draw tries{cases, order};
        for (std::size_t i = 0; i < cases.size(); ++i) {
            const std::size_t at = tries(i);
            if (cases[at]->kind->attempt(*cases[at]))
                return at;
        }
        draw places{cases, select_order::ordered};
        if (const std::size_t happened = wait_for_one(cases, places); happened != none)
            return happened;
        check_cancel(); // a spent budget yields, so that other fibers run if this repeats
    }
}

} // namespace creel::sync::detail
