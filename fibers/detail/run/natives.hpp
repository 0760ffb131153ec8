// The Boost fibers of a scheduler's thread (natives): their records, and the scope they wait in.
//
// A native has no nursery. Its creel calls wait in a scope that hangs under the outermost scope of
// main, as main's children do. So a cancel of that scope also reaches the natives.
//
// The states of a record:
//   living   from the first time Boost names the context (scheduler::record_of) until it ends
//   ended    its context has ended (native_records::end); it stays until the dispatcher's next pass
//            (forget_ended), because the last switch still looks at it
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/detail/run/native_records.hpp>

namespace creel::detail {

// Threads: its scheduler's own.
class natives {
public:
    // The record of a native; `begin(record)` is called if the record is new.
    template <typename Begin>
    fiber_record& record_of(boost::fibers::context* c, Begin begin) noexcept {
        const auto [f, is_new] = records_.of(c);
        if (is_new) {
            f.context = c;
            f.scope = &scope_;
            begin(f);
        }
        return f;
    }
    void ended(boost::fibers::context* c) noexcept { records_.end(c); }
    void forget_ended() noexcept;
    // At the end of a run: the natives go on without us.
    void forget_all() noexcept;

    // True while a native is inside a creel call: parked in one, or in a scope or nursery of its
    // own.
    [[nodiscard]] bool are_inside() const noexcept;

    // main has entered or left its outermost scope.
    void hang_under(scope_core* outermost_of_main) noexcept;
    // Brings the natives up to date with a change in the outermost scope of main.
    void look_outwards(spread_work& work) noexcept;

    // visit(const fiber_record&), for each living one.
    template <typename Visit>
    void for_each(Visit visit) const {
        for (const auto& [c, f] : records_)
            visit(f);
    }

private:
    scope_core scope_;
    native_records records_;
};

} // namespace creel::detail
