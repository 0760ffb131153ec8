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
    [[nodiscard]] std::vector<const fiber_record*> cycle();

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

    void add_fibers_above(const fiber_record& f);
    [[nodiscard]] std::vector<const fiber_record*> cycle_from(happening first);

    std::unordered_map<happening, node> nodes_;
    std::unordered_set<const task_record*> climbed_; // what is above them is in the graph
};

// The wait of a fiber that is not parked yet, or whose wake is on the way, is none.
void wait_graph::add(const waiter& w) {
    const parker& owner = scheduler::owner_of(w);
    if (owner.home == nullptr || owner.waiting_on != &w || w.kind().holder == nullptr)
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
    for (const auto& [first, n] : nodes_)
        if (n.visited == visit::not_yet)
            if (auto found = cycle_from(first); !found.empty())
                return found;
    return {};
}

// Depth first, without recursion: the chain of waits may be long, and the stack may be small.
std::vector<const fiber_record*> wait_graph::cycle_from(happening first) {
    std::vector<step> path{{first}};
    nodes_[first].visited = visit::under_way;
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

} // namespace

std::vector<const fiber_record*> find_deadlock() {
    wait_graph graph;
    for (const held_wait* w = this_held_waits.newest; w != nullptr; w = w->next())
        graph.add(w->who());
    return graph.cycle();
}

} // namespace creel::detail
