// race(f...): runs functions side by side and returns the result of the first that has one.
//
//     auto page = creel::race([&] { return fetch(mirror_a); }, [&] { return fetch(mirror_b); });
//
// Each function is a child of one nursery, named "race #1" and so on in lists and in
// error_origin(). The losers are cancelled and awaited: all that they had begun is cleaned up when
// race returns. A loser gets a cancel like any other, so it may still succeed; its value is
// dropped. To take from exactly one of several queues use sync::select.
#pragma once

#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/task/filled.hpp>
#include <creel/fibers/nursery.hpp>

#include <cstddef>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace creel {

namespace detail {

// The untyped half: a nursery in which an error cancels no child and is kept until the end. The
// first value makes it forget the errors before it; an error that comes later is thrown instead of
// the value.
class race_core {
public:
    explicit race_core(nursery& n) noexcept : core_(nursery_access::core(n)) {}

    // True if a function has won, or if not all could be spawned: a value that comes now is
    // dropped.
    [[nodiscard]] bool is_over() const noexcept { return won_ || not_begun_; }
    void win() noexcept;
    // An error of the spawning is the result: the children spawned before it are cancelled and
    // awaited.
    template <typename Spawn>
    void begin(Spawn&& spawn_all) {
        try {
            spawn_all();
        } catch (...) {
            fail(std::current_exception());
        }
    }
    // Waits for all. Throws the error of the race, and returns only if the race is won.
    void finish();

private:
    void fail(std::exception_ptr error) noexcept;

    nursery_core& core_;
    bool won_ = false;
    bool not_begun_ = false;
};

// The function of a child of race(); R is std::monostate for functions without a result.
template <typename R, typename F, std::size_t Number>
struct runner {
    void operator()() const {
        std::optional<filled_result<F>> value;
        fill(value, f);
        if (race.is_over())
            return;
        winner.emplace(std::move(*value));
        race.win();
    }

    race_core& race;
    std::optional<R>& winner;
    F& f;
};
template <typename R, typename F, std::size_t Number>
inline constexpr task_label default_label<runner<R, F, Number>>{"race", Number};

template <typename R, std::size_t... I, typename... F>
void spawn_runners(nursery& n, race_core& race, std::optional<R>& winner,
                   std::index_sequence<I...> /*numbers*/, F&... f) {
    (n.spawn(runner<R, F, I + 1>{race, winner, f}), ...);
}

} // namespace detail

// The value is of the common_type of the results. Functions without a result race to be done first.
// Without a function it does not compile.
// Parks: until the first has a result and the others have ended. Cancel: yes, all functions are
// cancelled and awaited; if there is a value nevertheless, it is returned. Threads: those with a
// scheduler. Throws: if no function wins, what they threw, several errors as an exception_group;
// instead of the value, a real error of a loser after the win; cancelled; task_cancelled if race()
// itself was cancelled. Cost: a nursery, and a spawn for each.
template <typename... F>
    requires(sizeof...(F) > 0)
auto race(F&&... f) -> std::common_type_t<detail::plain_result<F>...> {
    using result = std::common_type_t<detail::plain_result<F>...>;
    nursery n = detail::nursery_access::open({.on_error = collect(), .name = "race"},
                                             std::source_location::current());
    detail::race_core race{n};
    std::optional<detail::filled<result>> winner;
    race.begin(
        [&] { detail::spawn_runners(n, race, winner, std::index_sequence_for<F...>{}, f...); });
    race.finish();
    return detail::unfilled<result>(winner);
}

} // namespace creel
