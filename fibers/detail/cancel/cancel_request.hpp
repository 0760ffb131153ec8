// A cancel: how far it has come, why and when it was called, and when it takes effect. Each scope
// has one of its own, and each token two.
//
//              1                      3
//     none ─────────► asked ───────────────────► cancelled
//       │               │ ▲ 2: a shorter grace       ▲
//       │               └─┘                          │
//       └────────────────────────────────────────────┘
//                             3
//     1  rise_to(), with a grace: the cancel is called, and no wait obeys it yet
//     2  rise_to(), with a grace that ends sooner: the first reason stays
//     3  rise_to(), without a grace; or expire() of the scope, when the grace or the deadline has
//        passed
// A level never falls: a cancel is final.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/time.hpp>

#include <cstdint>
#include <memory>

namespace creel::detail {

enum class cancel_level : std::uint8_t { none, asked, cancelled };

struct cancel_request {
    // A cancel that is called now, with a grace from now on.
    [[nodiscard]] static cancel_request now(std::shared_ptr<const cancel_reason> reason,
                                            duration grace = {}) noexcept;

    // Takes over a request that goes further than this one, or takes effect sooner. The first
    // reason is kept. False if `later` says nothing new.
    bool rise_to(const cancel_request& later) noexcept;

    std::shared_ptr<const cancel_reason> reason{}; // set together with the level
    time_point requested_at{};                     // likewise
    cancel_level level = cancel_level::none;
    time_point takes_effect = time_point::max(); // the end of the grace
};

} // namespace creel::detail
