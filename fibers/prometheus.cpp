// The counters as text for Prometheus: the text format, version 0.0.4. All samples of a metric
// follow its HELP and TYPE.
#include <creel/fibers/process_statistics.hpp>

#include <creel/fibers/printable.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>

namespace creel {

namespace {

struct run_metric {
    statistic what;
    std::uint64_t scheduler_statistics::*value;
    bool of_now; // left out where no run has the number
};

constexpr std::array metrics{
    run_metric{{"creel_fibers", "Fibers (stacks) that exist, idle ones included."},
               &scheduler_statistics::fibers_alive,
               true},
    run_metric{{"creel_fibers_idle", "Fibers that are kept for the next task."},
               &scheduler_statistics::fibers_idle,
               true},
    run_metric{
        {"creel_timers", "Timers that are armed."}, &scheduler_statistics::timers_armed, true},
    run_metric{{"creel_tasks_peak", "The most tasks that a run had at one time."},
               &scheduler_statistics::peak_tasks,
               false},
    run_metric{{"creel_tasks_spawned_total", "Tasks spawned.", true},
               &scheduler_statistics::tasks_spawned,
               false},
    run_metric{{"creel_tasks_finished_total", "Tasks that have ended.", true},
               &scheduler_statistics::tasks_finished,
               false},
    run_metric{{"creel_fibers_created_total", "Stacks that were bound to a fiber.", true},
               &scheduler_statistics::fibers_created,
               false},
    run_metric{{"creel_switches_total", "Switches from one fiber to another.", true},
               &scheduler_statistics::switches,
               false},
    run_metric{{"creel_polls_total", "Rounds that looked outside without blocking.", true},
               &scheduler_statistics::polls,
               false},
    run_metric{{"creel_waits_total", "Rounds that blocked, because no fiber was ready.", true},
               &scheduler_statistics::waits,
               false},
    run_metric{{"creel_spins_total", "Rounds that looked for work for a while first.", true},
               &scheduler_statistics::spins,
               false},
    run_metric{{"creel_spins_paid_total", "Spins that found work.", true},
               &scheduler_statistics::spins_paid,
               false},
    run_metric{{"creel_spins_wasted_total", "Spins that found none.", true},
               &scheduler_statistics::spins_wasted,
               false},
    run_metric{{"creel_errors_reported_total", "Errors that went to a report() policy.", true},
               &scheduler_statistics::errors_reported,
               false},
    run_metric{{"creel_cancels_swallowed_total",
                "Waits that threw `cancelled` again, because the fiber had caught the first.",
                true},
               &scheduler_statistics::cancels_swallowed,
               false},
};

// The buckets of the histogram that are written: from 1 us to 69 s, each four times the one before.
constexpr std::size_t first_bucket = 10;
constexpr std::size_t last_bucket = 36;
constexpr std::size_t bucket_step = 2;

// A label's value: escaped as Prometheus wants it, and without bytes that a terminal would obey.
std::string label(std::string_view value) {
    std::string text;
    for (std::size_t i = 0; i < value.size();) {
        const std::size_t shown = printable_bytes(value.substr(i));
        if (value[i] == '"' || value[i] == '\\')
            text += '\\';
        text += shown != 0 ? value.substr(i, shown) : "?";
        i += shown != 0 ? shown : 1;
    }
    return text;
}

std::string labels_of(const run_statistics& r) {
    return "run=\"" + std::to_string(r.number) + "\",thread=\"" + label(r.thread_name) + '"';
}

std::string in_seconds(duration d) {
    std::array<char, 32> digits{};
    std::snprintf(digits.data(), digits.size(), "%.9g", std::chrono::duration<double>{d}.count());
    return digits.data();
}

void write_head(std::ostream& out, std::string_view name, std::string_view help, const char* type) {
    out << "# HELP " << name << ' ' << help << "\n# TYPE " << name << ' ' << type << '\n';
}

// `value` gives the value of a run in digits, or nothing.
void write_metric(std::ostream& out, const statistic& what, const process_statistics& told,
                  const std::function<std::string(const run_statistics&)>& value) {
    write_head(out, what.name, what.help, what.is_counter ? "counter" : "gauge");
    for (const run_statistics& r : told.runs)
        if (const std::string digits = value(r); !digits.empty())
            out << what.name << '{' << labels_of(r) << "} " << digits << '\n';
}

// A bucket counts the durations below its bound, where Prometheus also counts the bound itself.
// There is no _sum, because creel keeps none.
void write_cancel_latency(std::ostream& out, const process_statistics& told) {
    constexpr std::string_view name = "creel_cancel_latency_seconds";
    write_head(out, name, "From a cancel until its scope was left.", "histogram");
    for (const run_statistics& r : told.runs) {
        std::uint64_t below = 0;
        for (std::size_t i = 0; i <= last_bucket; ++i) {
            below += r.work.cancel_latency.counts[i];
            if (i < first_bucket || (i - first_bucket) % bucket_step != 0)
                continue;
            out << name << "_bucket{" << labels_of(r) << ",le=\""
                << in_seconds(std::chrono::nanoseconds{std::int64_t{1} << i}) << "\"} " << below
                << '\n';
        }
        const std::uint64_t all = r.work.cancel_latency.total();
        out << name << "_bucket{" << labels_of(r) << ",le=\"+Inf\"} " << all << '\n'
            << name << "_count{" << labels_of(r) << "} " << all << '\n';
    }
}

// What entry points add. Runs of different entry points may have different names.
void write_more(std::ostream& out, const process_statistics& told) {
    std::set<std::string_view> written;
    for (const run_statistics& first : told.runs)
        for (const statistic& what : first.more_names)
            if (written.insert(what.name).second)
                write_metric(out, what, told, [&](const run_statistics& r) {
                    for (std::size_t i = 0; i < r.more.size(); ++i)
                        if (r.more_names[i].name == std::string_view{what.name})
                            return r.is_on || what.is_counter ? std::to_string(r.more[i]) : "";
                    return std::string{};
                });
}

} // namespace

void write_prometheus(std::ostream& out, const process_statistics& told) {
    write_head(out, "creel_runs", "Runs that are on.", "gauge");
    out << "creel_runs " << told.runs_on << '\n';
    write_metric(out, {"creel_run_stalled", "1 if the run has not answered: its values are old."},
                 told, [](const run_statistics& r) {
                     return r.is_on ? std::to_string(int{r.is_stalled}) : std::string{};
                 });
    write_metric(out, {"creel_run_thread_id", "The thread of the run, as top -H shows it."}, told,
                 [](const run_statistics& r) {
                     return r.is_on ? std::to_string(r.thread_id) : std::string{};
                 });
    write_metric(out, {"creel_tasks", "Tasks that have not ended."}, told,
                 [](const run_statistics& r) {
                     return r.is_on ? std::to_string(r.tasks_alive) : std::string{};
                 });
    for (const run_metric& m : metrics)
        write_metric(out, m.what, told, [&](const run_statistics& r) {
            return r.is_on || !m.of_now ? std::to_string(r.work.*m.value) : std::string{};
        });
    write_metric(out, {"creel_stalls_total", "Stalls that the stall watchdog has seen.", true},
                 told, [](const run_statistics& r) { return std::to_string(r.stalls); });
    write_metric(out,
                 {"creel_stall_longest_seconds",
                  "The longest stall of all runs with this number, of those that have ended."},
                 told, [](const run_statistics& r) { return in_seconds(r.longest_stall); });
    write_cancel_latency(out, told);
    write_more(out, told);
}

void write_prometheus(std::ostream& out) {
    write_prometheus(out, all_statistics());
}

} // namespace creel
