#include "harness.hpp"

#include "options.hpp"
#include "report.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace creel::bench {
namespace {

using clock = std::chrono::steady_clock;

std::vector<std::function<family()>>& registered() {
    static std::vector<std::function<family()>> families;
    return families;
}

// The measurements of one family, and the values that they have given so far.
struct plan {
    struct item {
        std::size_t candidate;
        std::size_t case_index;
        std::vector<values> rounds{}; // each holds one value per figure, or none if it failed
    };
    family of;
    std::vector<std::vector<item>> cases; // only cases that have something to measure
    int rounds = 0;
};

plan make_plan(family of, const options& wanted) {
    plan result;
    result.rounds = wanted.quick ? of.quick_rounds : of.rounds;
    if (wanted.rounds > 0 && !of.instructions) // counts of instructions repeat exactly
        result.rounds = wanted.rounds;
    for (std::size_t c = 0; c < of.cases.size(); ++c) {
        std::vector<plan::item> items;
        for (std::size_t i = 0; i < of.candidates.size(); ++i)
            if (const auto& name = of.candidates[i].name;
                wanted.wants(of.name, name, id_of(of.name, name, "", of.cases[c])) &&
                (!of.candidates[i].has_case || of.candidates[i].has_case(c)))
                items.push_back({i, c});
        if (!items.empty())
            result.cases.push_back(std::move(items));
    }
    result.of = std::move(of);
    return result;
}

std::string time_left(clock::duration elapsed, double done, double total) {
    if (done < 1)
        return "";
    const double seconds = std::chrono::duration<double>(elapsed).count() / done * (total - done);
    char text[48];
    if (seconds < 90)
        std::snprintf(text, sizeof text, " (%.0f s left)", seconds);
    else
        std::snprintf(text, sizeof text, " (%.0f min left)", seconds / 60);
    return text;
}

// Measures one item; returns false when it failed. Progress goes to stderr, so that stdout has only
// the tables.
bool measure(const family& of, plan::item& item, const options& wanted) {
    const auto& candidate = of.candidates[item.candidate];
    try {
        auto measured = candidate.measure(item.case_index, effort{wanted.quick});
        if (measured.size() != of.figures.size())
            throw std::logic_error("one value per figure expected");
        std::cerr << "  " << candidate.name << ' '
                  << short_value(measured.front(), of.figures.front().unit) << std::flush;
        item.rounds.push_back(std::move(measured));
        return true;
    } catch (const std::exception& error) {
        item.rounds.emplace_back();
        std::cerr << "\n"
                  << id_of(of.name, candidate.name, "", of.cases[item.case_index])
                  << " failed: " << error.what() << std::endl;
        return false;
    }
}

int run_plan(plan& todo, const options& wanted) {
    int failures = 0;
    const auto started = clock::now();
    const auto blocks = static_cast<double>(todo.cases.size()) * todo.rounds;
    double done = 0;
    for (int round = 0; round < todo.rounds; ++round)
        for (auto& items : todo.cases) {
            std::cerr << round + 1 << '/' << todo.rounds << ' '
                      << id_of(todo.of.name, "", "", todo.of.cases[items.front().case_index])
                      << time_left(clock::now() - started, done, blocks) << ':' << std::flush;
            for (std::size_t i = 0; i < items.size(); ++i) {
                auto& item = items[(i + static_cast<std::size_t>(round)) % items.size()];
                failures += measure(todo.of, item, wanted) ? 0 : 1;
            }
            std::cerr << std::endl;
            ++done;
        }
    return failures;
}

family_results results_of(const plan& done) {
    family_results all{done.of, {}, {}};
    for (const auto& items : done.cases)
        for (const auto& item : items) {
            const auto& candidate = done.of.candidates[item.candidate];
            const auto& case_name = done.of.cases[item.case_index];
            result one{candidate.name, case_name, {}, {}, candidate.control, 0, 0};
            for (const auto& round : item.rounds)
                ++(round.empty() ? one.failed : one.rounds);
            if (one.rounds == 0) {
                all.failed.push_back(id_of(done.of.name, candidate.name, "", case_name));
                continue;
            }
            for (std::size_t f = 0; f < done.of.figures.size(); ++f) {
                std::vector<double> given;
                std::vector<double> by_round;
                for (const auto& round : item.rounds) {
                    if (!round.empty())
                        given.push_back(round[f]);
                    by_round.push_back(round.empty() ? std::nan("") : round[f]);
                }
                one.figures.push_back(summarise(std::move(given)));
                one.by_round.push_back(std::move(by_round));
            }
            all.results.push_back(std::move(one));
        }
    return all;
}

// Prints the ids as they are in the JSON.
void print_list(const plan& todo) {
    for (const auto& items : todo.cases)
        for (const auto& item : items)
            for (const auto& figure : todo.of.figures)
                std::cout << id_of(todo.of.name, todo.of.candidates[item.candidate].name,
                                   figure.name, todo.of.cases[item.case_index])
                          << '\n';
}

// A name that selects nothing is probably mistyped, and is reported at once.
void check_selections(const options& wanted, const std::vector<family>& families) {
    for (const auto& selection : wanted.selections) {
        std::vector<std::string> known;
        for (const auto& one : families)
            if (one.name == selection.family)
                for (const auto& candidate : one.candidates)
                    known.push_back(candidate.name);
        if (known.empty())
            throw std::invalid_argument("no family is called " + selection.family +
                                        " (see --list)");
        for (const auto& name : selection.candidates)
            if (std::find(known.begin(), known.end(), name) == known.end())
                throw std::invalid_argument("family " + selection.family + " has no candidate " +
                                            name + " (see --list)");
    }
}

std::vector<plan> make_plans(const options& wanted) {
    std::vector<family> families;
    for (const auto& make : registered())
        families.push_back(make());
    check_selections(wanted, families);
    std::vector<plan> plans;
    for (auto& one : families)
        if (wanted.wants_family(one.name) && (wanted.instructions || !one.instructions))
            if (auto todo = make_plan(std::move(one), wanted); !todo.cases.empty())
                plans.push_back(std::move(todo));
    if (plans.empty())
        throw std::invalid_argument("nothing matches (see --list)");
    return plans;
}

// Makes one measurement for another process of the benchmark: see alone.hpp.
int run_alone(const std::string& id, std::uint64_t rounds) {
    for (const auto& make : registered()) {
        const family one = make();
        for (const auto& candidate : one.candidates)
            for (std::size_t c = 0; c < one.cases.size(); ++c)
                if (candidate.alone && id_of(one.name, candidate.name, "", one.cases[c]) == id) {
                    for (const double value : candidate.alone(c, rounds))
                        std::printf("%.17g\n", value);
                    return 0;
                }
    }
    throw std::invalid_argument("nothing is measured alone as " + id);
}

int run_all(const options& wanted) {
    auto plans = make_plans(wanted);
    if (wanted.list) {
        for (const auto& todo : plans)
            print_list(todo);
        return 0;
    }
    // A file that cannot be written is found before minutes of work, not after it.
    std::ofstream json;
    if (!wanted.json.empty())
        if (json.open(wanted.json); !json)
            throw std::runtime_error("cannot write " + wanted.json);
    int failures = 0;
    int rounds = 0;
    std::vector<family_results> all;
    for (auto& todo : plans) {
        failures += run_plan(todo, wanted);
        rounds = std::max(rounds, todo.rounds);
        all.push_back(results_of(todo));
    }
    for (const auto& results : all)
        print_tables(std::cout, results);
    if (json.is_open()) {
        write_json(json, describe_context(wanted.command, rounds), all);
        if (!json)
            throw std::runtime_error("cannot write " + wanted.json);
    }
    if (failures > 0)
        std::cerr << failures << " measurements failed" << std::endl;
    return failures > 0 ? 1 : 0;
}

} // namespace

registration::registration(std::function<family()> make) {
    registered().push_back(std::move(make));
}

int run(int argc, char** argv) {
    options wanted;
    try {
        wanted = parse_options(argc, argv);
        if (wanted.help) {
            std::cout << usage;
            return 0;
        }
        if (!wanted.alone.empty())
            return run_alone(wanted.alone, wanted.alone_rounds);
        return run_all(wanted);
    } catch (const std::invalid_argument& error) {
        std::cerr << "bench: " << error.what() << "\n\n" << usage;
        return 2;
    } catch (const std::exception& error) {
        std::cerr << "bench: " << error.what() << std::endl;
        return 1;
    }
}

} // namespace creel::bench
