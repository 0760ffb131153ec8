#include "micro.hpp"

#include "pin.hpp"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::bench {
namespace {

// User-space instructions of this thread, or -1: virtual machines often have no such counter.
int open_instruction_counter() {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_HARDWARE;
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    attributes.disabled = 1;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    return static_cast<int>(
        syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
}

// Lives as long as the family whose measurements read it.
class instruction_counter {
public:
    instruction_counter() : descriptor_(open_instruction_counter()) {}
    instruction_counter(const instruction_counter&) = delete;
    instruction_counter& operator=(const instruction_counter&) = delete;
    ~instruction_counter() {
        if (descriptor_ >= 0)
            close(descriptor_);
    }
    [[nodiscard]] int descriptor() const { return descriptor_; }

private:
    int descriptor_;
};

// One function under test with its calibrated number of operations (0: not yet calibrated).
struct calibrated {
    std::function<void(meter&)> run;
    std::uint64_t operations = 0;
};

// Doubles until a run takes a fifth of `target`, then scales. Throws: std::logic_error when even
// 2^36 operations take no time.
std::uint64_t calibrate(const std::function<void(meter&)>& run, std::chrono::nanoseconds target) {
    for (std::uint64_t operations = 1; operations < std::uint64_t{1} << 36; operations *= 2) {
        meter trial{operations, -1};
        run(trial);
        const auto elapsed = std::max(trial.elapsed(), std::chrono::nanoseconds{1});
        if (elapsed * 5 >= target) {
            const double scale =
                static_cast<double>(target.count()) / static_cast<double>(elapsed.count());
            return std::max<std::uint64_t>(
                1, static_cast<std::uint64_t>(static_cast<double>(operations) * scale));
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
    if (counter_ >= 0) {
        ioctl(counter_, PERF_EVENT_IOC_RESET, 0);
        ioctl(counter_, PERF_EVENT_IOC_ENABLE, 0);
    }
    started_ = std::chrono::steady_clock::now();
}

void meter::stop() {
    elapsed_ = std::chrono::steady_clock::now() - started_;
    stopped_ = true;
    if (counter_ >= 0) {
        ioctl(counter_, PERF_EVENT_IOC_DISABLE, 0);
        if (read(counter_, &instructions_, sizeof instructions_) != sizeof instructions_)
            instructions_ = 0;
    }
}

std::chrono::nanoseconds meter::elapsed() const {
    if (!stopped_)
        throw std::logic_error("the benchmark did not call meter::measure");
    return elapsed_;
}

micro& micro::add(std::string candidate, bool is_control, std::string case_name,
                  std::function<void(meter&)> run) & {
    items_.push_back({std::move(candidate), is_control, std::move(case_name), std::move(run)});
    return *this;
}

bench::family micro::family() const {
    const auto counter = std::make_shared<instruction_counter>();
    bench::family result;
    result.name = name_;
    result.figures = {{"", "ns"}};
    if (counter->descriptor() >= 0)
        result.figures.push_back({"instructions", "instructions"});
    std::vector<std::string> names;
    std::vector<std::vector<calibrated>> table; // by candidate, then by case
    for (const auto& entry : items_) {
        const auto candidate = index_of(names, entry.candidate);
        const auto case_index = index_of(result.cases, entry.case_name);
        if (candidate == table.size()) {
            table.emplace_back();
            result.candidates.push_back({entry.candidate, entry.is_control, {}});
        }
        auto& row = table[candidate];
        row.resize(std::max(row.size(), case_index + 1));
        row[case_index].run = entry.run;
    }
    for (std::size_t i = 0; i < table.size(); ++i)
        result.candidates[i].measure =
            [counter, row = std::move(table[i])](std::size_t case_index,
                                                 const effort& effort) mutable -> values {
            if (case_index >= row.size() || !row[case_index].run)
                return {};
            const pinned here{0};
            auto& [run, operations] = row[case_index];
            if (operations == 0)
                operations = calibrate(run, std::chrono::milliseconds{effort.quick ? 10 : 50});
            meter meter{operations, counter->descriptor()};
            run(meter);
            const auto count = static_cast<double>(operations);
            values measured{static_cast<double>(meter.elapsed().count()) / count};
            if (counter->descriptor() >= 0)
                measured.push_back(static_cast<double>(meter.instructions()) / count);
            return measured;
        };
    return result;
}

} // namespace creel::bench
