#include "verdicts.hpp"

#include "server.hpp"

#include <algorithm>
#include <cstddef>
#include <ostream>
#include <string_view>
#include <vector>

namespace creel::bench::echo {
namespace {

// Indexes of the family's figures.
enum : std::size_t { cpu = 0, p99 = 3, p999 = 4 };

using candidates = std::vector<const result*>; // the candidates of one case

const result* find(const candidates& all, std::string_view name) {
    for (const result* one : all)
        if (one->candidate == name)
            return one;
    return nullptr;
}

candidates raw_uring(const candidates& all) {
    candidates found;
    for (const result* one : all)
        if (one->candidate.starts_with("raw_uring"))
            found.push_back(one);
    return found;
}

void print_case(std::ostream& out, const family_results& results, unsigned connections,
                unsigned bytes) {
    candidates all;
    for (const auto& one : results.results)
        if (one.case_name == case_of(connections, bytes))
            all.push_back(&one);
    const result* mine = find(all, "creel");
    const candidates raw = raw_uring(all);
    if (mine == nullptr)
        return;
    const auto compare = [&](std::size_t figure, const result& other, double limit) {
        print_verdict(out, results, *mine, other, figure, limit);
    };
    const bool most = connections == most_connections;
    if (raw.size() == 2) {
        const auto by = [](std::size_t figure) {
            return [figure](const result* a, const result* b) {
                return a->figures[figure].median < b->figures[figure].median;
            };
        };
        const result& best = **std::min_element(raw.begin(), raw.end(), by(cpu));
        compare(cpu, best, most ? 1.08 : 1.03);
        if (most) {
            compare(p99, **std::max_element(raw.begin(), raw.end(), by(p99)), 1.1);
            compare(p999, **std::max_element(raw.begin(), raw.end(), by(p999)), 1.1);
        } else {
            compare(p99, best, 1.1);
        }
        // The coroutines of same_job are a fair opponent only with a good loop.
        if (const result* other = find(all, "coroutine_uring"); other != nullptr && bytes == 64)
            print_verdict(out, results, *other, best, cpu, 1.05);
    }
    if (const result* epoll = find(all, "raw_epoll"); epoll != nullptr && bytes == 64)
        compare(cpu, *epoll, most ? 1.0 : 0.9);
}

} // namespace

void print_verdicts(std::ostream& out, const family_results& results) {
    print_verdict_heading(out);
    for (const unsigned bytes : {64U, most_bytes})
        for (const unsigned connections : {64U, 512U, most_connections})
            print_case(out, results, connections, bytes);
}

} // namespace creel::bench::echo
