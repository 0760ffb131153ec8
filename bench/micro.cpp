#include "micro.hpp"

#include "alone.hpp"
#include "pin.hpp"
#include "report.hpp"
#include "system_call.hpp"

#include <algorithm>
#include <stdexcept>

#include <time.h>

namespace creel::bench {
namespace {

// The two counts of a difference are at least this many operations apart.
constexpr std::uint64_t counted_operations = 65'536;

std::chrono::nanoseconds cpu_time() {
    return std::chrono::nanoseconds{nanoseconds(CLOCK_PROCESS_CPUTIME_ID)};
}

// Doubles the rounds until a run takes a fifth of `target`, then scales them to `target`.
// Throws: std::logic_error when even 2^36 rounds take no time.
std::uint64_t calibrate(const std::function<void(meter&)>& run, std::chrono::nanoseconds target) {
    for (std::uint64_t rounds = 1; rounds < std::uint64_t{1} << 36; rounds *= 2) {
        meter trial{rounds, meter::purpose::timing};
        run(trial);
        const auto elapsed = std::max(trial.elapsed(), std::chrono::nanoseconds{1});
        if (elapsed * 5 >= target) {
            const double scale =
                static_cast<double>(target.count()) / static_cast<double>(elapsed.count());
            return std::max<std::uint64_t>(
                1, static_cast<std::uint64_t>(static_cast<double>(rounds) * scale));
        }
    }
    throw std::logic_error("the benchmark does nothing");
}

std::size_t index_of(std::vector<std::string>& names, const std::string& name) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end())
        return static_cast<std::size_t>(found - names.begin());
    names.push_back(name);
    return names.size() - 1;
}

} // namespace

void meter::start() {
    started_ = cpu_time();
}

void meter::stop() {
    if (purpose_ == purpose::counting)
        end_of_counting();
    elapsed_ = cpu_time() - started_;
    stopped_ = true;
}

std::chrono::nanoseconds meter::elapsed() const {
    if (!stopped_)
        throw std::logic_error("the benchmark did not call meter::measure");
    return elapsed_;
}

micro& micro::add(std::string candidate, bool is_control, micro_case what,
                  std::function<void(meter&)> run) & {
    items_.push_back({std::move(candidate), is_control, std::move(what), std::move(run)});
    return *this;
}

struct micro::table {
    bench::family family;
    std::vector<std::vector<item>>
        rows; // by candidate, then by case; `run` is null without such a case
};

micro::table micro::arrange(const std::string& name, const std::vector<item>& items) {
    table result;
    result.family.name = name;
    std::vector<std::string> names;
    for (const auto& entry : items) {
        const auto candidate = index_of(names, entry.candidate);
        const auto case_index = index_of(result.family.cases, entry.what.name);
        if (candidate == result.rows.size()) {
            result.rows.emplace_back();
            result.family.candidates.push_back({entry.candidate, entry.is_control, {}});
        }
        auto& row = result.rows[candidate];
        row.resize(std::max(row.size(), case_index + 1));
        row[case_index] = entry;
    }
    for (std::size_t i = 0; i < result.rows.size(); ++i) {
        auto& row = result.rows[i];
        row.resize(result.family.cases.size());
        std::vector<bool> has;
        for (const auto& entry : row)
            has.push_back(entry.run != nullptr);
        result.family.candidates[i].has_case = [has](std::size_t case_index) {
            return has[case_index];
        };
    }
    return result;
}

bench::family micro::family() const {
    table all = arrange(name_, items_);
    all.family.figures = {{"", "ns"}};
    for (std::size_t i = 0; i < all.rows.size(); ++i)
        all.family.candidates[i].measure =
            [row = all.rows[i], calibrated = std::vector<std::uint64_t>(all.rows[i].size())](
                std::size_t case_index, const effort& effort) mutable -> values {
            const auto& [candidate, is_control, what, run] = row[case_index];
            const pinned here{0};
            auto& rounds = calibrated[case_index]; // 0: not calibrated yet
            if (rounds == 0)
                rounds = calibrate(run, std::chrono::milliseconds{effort.quick ? 10 : 50});
            meter meter{rounds, meter::purpose::timing};
            run(meter);
            return {static_cast<double>(meter.elapsed().count()) /
                    static_cast<double>(rounds * what.operations)};
        };
    return std::move(all.family);
}

bench::family micro::instruction_family() const {
    std::vector<item> counted;
    for (auto entry : items_)
        if (std::find(uncounted_.begin(), uncounted_.end(), entry.candidate) == uncounted_.end()) {
            entry.what.name += "/instructions";
            counted.push_back(std::move(entry));
        }
    table all = arrange(name_, counted);
    all.family.figures = {{"", "instructions"}};
    all.family.instructions = true;
    all.family.rounds = all.family.quick_rounds = 1;
    for (std::size_t i = 0; i < all.rows.size(); ++i) {
        auto& candidate = all.family.candidates[i];
        candidate.measure = [row = all.rows[i], name = name_](std::size_t case_index,
                                                              const effort&) -> values {
            const auto& entry = row[case_index];
            const auto rounds =
                (counted_operations + entry.what.operations - 1) / entry.what.operations;
            const auto id = id_of(name, entry.candidate, "", entry.what.name);
            const auto all_of_it = count_instructions_alone(id, 2 * rounds);
            const auto without = count_instructions_alone(id, rounds);
            return {(static_cast<double>(all_of_it) - static_cast<double>(without)) /
                    static_cast<double>(rounds * entry.what.operations)};
        };
        candidate.alone = [row = all.rows[i]](std::size_t case_index,
                                              std::uint64_t rounds) -> values {
            meter meter{rounds, meter::purpose::counting};
            row[case_index].run(meter);
            throw std::logic_error("the benchmark did not call meter::measure");
        };
    }
    return std::move(all.family);
}

} // namespace creel::bench
