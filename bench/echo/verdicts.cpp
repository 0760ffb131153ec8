#include "verdicts.hpp"

#include "server.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <string>
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

class verdicts {
public:
    verdicts(std::ostream& out, const result& mine) : out_(out), mine_(mine) {}

    // Prints whether the figure is at most `most` times that of the other candidate.
    void compare(std::string_view figure, std::size_t index, const result& other, double most) {
        const double ratio = mine_.figures[index].median / other.figures[index].median;
        std::array<char, 192> line{};
        std::snprintf(line.data(), line.size(), "%-15s %-30s %-5.*s %.3fx %-20s wanted %.2f: %s\n",
                      mine_.candidate.c_str(), mine_.case_name.c_str(),
                      static_cast<int>(figure.size()), figure.data(), ratio,
                      other.candidate.c_str(), most, ratio <= most ? "holds" : "MISSED");
        out_ << line.data();
    }

private:
    std::ostream& out_;
    const result& mine_;
};

void print_case(std::ostream& out, const candidates& all, unsigned connections, unsigned bytes) {
    const result* mine = find(all, "creel");
    const candidates raw = raw_uring(all);
    if (mine == nullptr)
        return;
    verdicts say{out, *mine};
    const bool most = connections == most_connections;
    if (raw.size() == 2) {
        const auto by = [](std::size_t figure) {
            return [figure](const result* a, const result* b) {
                return a->figures[figure].median < b->figures[figure].median;
            };
        };
        const result& best = **std::min_element(raw.begin(), raw.end(), by(cpu));
        say.compare("cpu", cpu, best, most ? 1.08 : 1.03);
        if (most) {
            say.compare("p99", p99, **std::max_element(raw.begin(), raw.end(), by(p99)), 1.1);
            say.compare("p999", p999, **std::max_element(raw.begin(), raw.end(), by(p999)), 1.1);
        } else {
            say.compare("p99", p99, best, 1.1);
        }
        // The coroutines of same_job are a fair opponent only with a good loop.
        if (const result* other = find(all, "coroutine_uring"); other != nullptr && bytes == 64)
            verdicts{out, *other}.compare("cpu", cpu, best, 1.05);
    }
    if (const result* epoll = find(all, "raw_epoll"); epoll != nullptr && bytes == 64)
        say.compare("cpu", cpu, *epoll, most ? 1.0 : 0.9);
}

} // namespace

void print_verdicts(std::ostream& out, const family_results& results) {
    out << "\nWhat creel is to reach, by these medians: its ratio to another candidate\n\n";
    for (const unsigned bytes : {64U, most_bytes})
        for (const unsigned connections : {64U, 512U, most_connections}) {
            candidates all;
            for (const auto& one : results.results)
                if (one.case_name == case_of(connections, bytes))
                    all.push_back(&one);
            print_case(out, all, connections, bytes);
        }
}

} // namespace creel::bench::echo
