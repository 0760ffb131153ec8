#include <creel/fibers/detail/inspect/deadlock_search.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/held_wait.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace creel::detail {

namespace {

// "Fiber N goes on" is 2N, "task N ends" is 2N + 1. The numbers of plain threads do not fit, and
// such a thread is part of no cycle.
using happening = std::uint64_t;

happening goes_on(party_number who) noexcept {
    return 2 * who;
}
happening ends(party_number task) noexcept {
    return 2 * task + 1;
}

class wait_graph {
public:
    void add(const waiter& w);
    // The fibers of a cycle; empty if there is none.
    [[nodiscard]] std::vector<const fiber_record*> cycle();
    // For the fibers of a cycle of this graph: true if none of their waits will be cancelled.
    [[nodiscard]] bool is_proven(const std::vector<const fiber_record*>& cycle,
                                 const scope_core* root) const;
    // The wait of this fiber ends by a cancel: it is part of no cycle.
    void take_out(const fiber_record& f) { nodes_.at(goes_on(number_of(f))).needs.clear(); }

private:
    enum class visit : std::uint8_t { not_yet, under_way, done };

    struct node {
        const fiber_record* fiber = nullptr; // of "goes on", if it has edges
        std::vector<happening> needs{};
        visit visited = visit::not_yet;
    };
    struct step {
        happening at;
        std::size_t next_edge = 0;
    };
    using happenings = std::unordered_set<happening>;

    void add_fibers_above(const fiber_record& f);
    [[nodiscard]] std::vector<const fiber_record*> cycle_from(happening first);
    [[nodiscard]] bool may_be_cancelled_from(const scope_core& around, const happenings& cycle,
                                             const scope_core* root) const;
    [[nodiscard]] bool is_stuck(happening what, const happenings& cycle,
                                const scope_core* root) const;

    std::unordered_map<happening, node> nodes_;
    std::unordered_set<const task_record*> climbed_; // what is above them is in the graph
};

// The wait of a fiber that is not parked yet, or whose wake is on the way, is none.
void wait_graph::add(const waiter& w) {
    const parker& owner = scheduler::owner_of(w);
    if (owner.home == nullptr || owner.waiting_on != &w || w.kind().holder == nullptr ||
        scheduler::has_timer(w))
        return;
    const auto& f = static_cast<const fiber_record&>(owner);
    const party_number holder = w.kind().holder(w);
    if (holder == 0 || holder >= first_thread_party)
        return;
    if (w.kind().cancellable && visible_deadline(f) != time_point::max())
        return;
    node& waits = nodes_[goes_on(number_of(f))];
    waits.fiber = &f;
    waits.needs.push_back(w.kind().is_for_end ? ends(holder) : goes_on(holder));
    add_fibers_above(f);
}

void wait_graph::add_fibers_above(const fiber_record& f) {
    const fiber_record* below = &f;
    while (const task_record* t = below->current) {
        if (!climbed_.insert(t).second)
            return;
        nodes_[ends(t->id)].needs.push_back(goes_on(t->id));
        const nursery_core& around = *t->parent;
        if (around.is_of_start)
            return;
        const auto& opener = static_cast<const fiber_record&>(*around.opener);
        if (opener.waiting_on != nullptr && nursery_awaited_by(*opener.waiting_on) == &around) {
            node& waits = nodes_[goes_on(number_of(opener))];
            waits.fiber = &opener;
            waits.needs.push_back(ends(t->id));
        }
        if (opener.current != nullptr)
            nodes_[ends(opener.current->id)].needs.push_back(ends(t->id));
        below = &opener;
    }
}

std::vector<const fiber_record*> wait_graph::cycle() {
    for (auto& [key, n] : nodes_)
        n.visited = visit::not_yet;
    for (const auto& [first, n] : nodes_)
        if (n.visited == visit::not_yet)
            if (auto found = cycle_from(first); !found.empty())
                return found;
    return {};
}

// Depth first, without recursion: the chain of waits may be long, and the stack may be small.
std::vector<const fiber_record*> wait_graph::cycle_from(happening first) {
    std::vector<step> path{{first}};
    nodes_.at(first).visited = visit::under_way;
    while (!path.empty()) {
        node& here = nodes_.at(path.back().at);
        if (path.back().next_edge == here.needs.size()) {
            here.visited = visit::done;
            path.pop_back();
            continue;
        }
        const happening needed = here.needs[path.back().next_edge++];
        const auto next = nodes_.find(needed);
        if (next == nodes_.end() || next->second.visited == visit::done)
            continue;
        if (next->second.visited == visit::not_yet) {
            next->second.visited = visit::under_way;
            path.push_back({needed});
            continue;
        }
        auto from = std::find_if(path.begin(), path.end(),
                                 [needed](const step& s) { return s.at == needed; });
        std::vector<const fiber_record*> fibers;
        for (; from != path.end(); ++from)
            if (const fiber_record* const f = nodes_.at(from->at).fiber)
                fibers.push_back(f);
        return fibers;
    }
    return {};
}

// True if a party that the graph does not know may cancel the wait of this fiber.
bool may_be_cancelled_from_outside(const fiber_record& f, const scope_core* root) noexcept {
    if (f.waiting_on == nullptr || !f.waiting_on->kind().cancellable)
        return false;
    for (const scope_core* s = f.scope; s != nullptr && s != root; s = s->parent) {
        if (s->links != nullptr)
            return true;
        if (s->shielded)
            break;
    }
    return false;
}

// True if `what` needs something of the cycle, directly or not, and by waits that no cancel from
// outside ends.
bool wait_graph::is_stuck(happening what, const happenings& cycle, const scope_core* root) const {
    happenings seen{what};
    std::vector<happening> to_look_at{what};
    while (!to_look_at.empty()) {
        const happening at = to_look_at.back();
        to_look_at.pop_back();
        if (cycle.contains(at))
            return true;
        const auto n = nodes_.find(at);
        if (n == nodes_.end() ||
            (n->second.fiber != nullptr && may_be_cancelled_from_outside(*n->second.fiber, root)))
            continue;
        for (const happening needed : n->second.needs)
            if (seen.insert(needed).second)
                to_look_at.push_back(needed);
    }
    return false;
}

bool wait_graph::may_be_cancelled_from(const scope_core& around, const happenings& cycle,
                                       const scope_core* root) const {
    if (around.links != nullptr)
        return true; // by a token; a nursery with a remote handle has one, too
    const nursery_core* const n = around.nursery;
    if (n == nullptr)
        return false; // the scope of a fiber that is stuck itself
    if (!is_stuck(goes_on(number_of(static_cast<const fiber_record&>(*n->opener))), cycle, root))
        return true;
    for (const task_record* t = n->first_child; t != nullptr; t = t->next)
        if (!is_stuck(goes_on(t->id), cycle, root))
            return true;
    return n->pending_starts != 0;
}

bool wait_graph::is_proven(const std::vector<const fiber_record*>& cycle,
                           const scope_core* root) const {
    happenings of_cycle;
    for (const fiber_record* const f : cycle)
        of_cycle.insert(goes_on(number_of(*f)));
    for (const fiber_record* const f : cycle) {
        if (!f->waiting_on->kind().cancellable)
            continue;
        for (const scope_core* s = f->scope; s != nullptr && s != root; s = s->parent) {
            if (may_be_cancelled_from(*s, of_cycle, root))
                return false;
            if (s->shielded)
                break;
        }
    }
    return true;
}

// The same cycle is told in the same way, wherever the search has met it.
void begin_with_lowest(std::vector<const fiber_record*>& cycle) {
    std::rotate(cycle.begin(),
                std::min_element(cycle.begin(), cycle.end(),
                                 [](const fiber_record* a, const fiber_record* b) {
                                     return number_of(*a) < number_of(*b);
                                 }),
                cycle.end());
}

} // namespace

// A cycle that is not proven is opened at a wait that a cancel may end, so that the search meets
// the next one.
deadlock_cycle find_deadlock(const scope_core* root) {
    wait_graph graph;
    for (const held_wait* w = this_held_waits.newest; w != nullptr; w = w->next())
        graph.add(w->who());
    deadlock_cycle first;
    for (auto fibers = graph.cycle(); !fibers.empty(); fibers = graph.cycle()) {
        begin_with_lowest(fibers);
        if (graph.is_proven(fibers, root))
            return {std::move(fibers), true};
        graph.take_out(**std::find_if(fibers.begin(), fibers.end(), [](const fiber_record* f) {
            return f->waiting_on->kind().cancellable;
        }));
        if (first.fibers.empty())
            first.fibers = std::move(fibers);
    }
    return first;
}

} // namespace creel::detail
