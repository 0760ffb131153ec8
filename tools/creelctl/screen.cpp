#include "screen.hpp"

#include "text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

namespace creelctl {

namespace {

template <typename... Values>
std::string printed(const char* format, Values... values) {
    std::array<char, 512> text{};
    std::snprintf(text.data(), text.size(), format, values...);
    return text.data();
}

// At most six characters: 999999, 1.2M.
std::string short_number(double n) {
    static constexpr std::array units{"", "k", "M", "G", "T"};
    std::size_t unit = 0;
    if (n >= 999'999.5)
        for (; n >= 999.5 && unit + 1 < units.size(); ++unit)
            n /= 1000;
    return printed(unit == 0 || n >= 100 ? "%.0f%s" : "%.1f%s", n, units.at(unit));
}

// 310ms, 12.3s, 4m05s, 7h12m, 3d04h
std::string short_time(double nanoseconds) {
    const double seconds = nanoseconds / 1e9;
    if (seconds < 0.0009995)
        return printed("%.0fus", nanoseconds / 1e3);
    if (seconds < 0.9995)
        return printed("%.0fms", nanoseconds / 1e6);
    if (seconds < 60)
        return printed("%.1fs", seconds);
    const auto whole = static_cast<long long>(seconds);
    if (whole < 3600)
        return printed("%lldm%02llds", whole / 60, whole % 60);
    if (whole < 86400)
        return printed("%lldh%02lldm", whole / 3600, whole / 60 % 60);
    return printed("%lldd%02lldh", whole / 86400, whole / 3600 % 24);
}

std::string time_of_day() {
    const std::time_t now = std::time(nullptr);
    std::tm fields{};
    ::localtime_r(&now, &fields);
    return printed("%02d:%02d:%02d", fields.tm_hour, fields.tm_min, fields.tm_sec);
}

// How much a counter rises in a second; "-" at the first look.
std::string rate(const look& before, const look& now, int run, const std::string& metric) {
    const double seconds =
        std::chrono::duration<double>(now.counted.taken - before.counted.taken).count();
    const auto old = before.counted.runs.find(run);
    if (seconds <= 0 || old == before.counted.runs.end())
        return "-";
    const double rise = now.counted.runs.at(run)[metric] - old->second[metric];
    return short_number(std::max(0.0, std::round(rise / seconds)));
}

// server.cpp:42
std::string place_of(const json& where) {
    if (where.empty())
        return {};
    const std::string& file = where["file"].text;
    return file.substr(file.rfind('/') + 1) + ':' + where["line"].text;
}

// "stalled for 1.3s: worker (#17, spawned at server.cpp:42) computes"; empty: the run is not.
std::string stall_of(const json& dump, int number) {
    for (const json& run : dump["runs"].items) {
        if (run["run"].text != std::to_string(number) || !run["stalled"].is_true())
            continue;
        const json& fiber = run["running_fiber"];
        const std::string& kind = fiber["kind"].text;
        std::string who = fiber.empty()      ? "a fiber"
                          : kind == "creel"  ? "creel itself"
                          : kind == "native" ? "Boost fiber"
                          : kind == "main"   ? "main"
                                             : fiber["name"].text;
        if (!fiber.empty() && kind != "creel") {
            const std::string where = place_of(fiber["spawned_at"]);
            who += (who.empty() ? "#" : " (#") + fiber["number"].text;
            who += (where.empty() ? "" : ", spawned at " + where) + (who.front() == '#' ? "" : ")");
        }
        return "stalled for " + short_time(run["since_last_poll_ns"].number()) + ": " + who + ' ' +
               run["does"].text;
    }
    return {};
}

void add_runs(std::vector<std::string>& lines, const look& before, const look& now) {
    lines.push_back(printed("%4s %-15s %8s %-7s %7s %7s %9s %9s %9s %9s", "RUN", "THREAD", "LWP",
                            "STATE", "TASKS", "FIBERS", "SWITCH/s", "POLL/s", "WAIT/s", "SPAWN/s"));
    for (const auto& [number, run] : now.counted.runs) {
        if (!run.is_on())
            continue;
        lines.push_back(printed(
            "%4d %-15s %8.0f %-7s %7s %7s %9s %9s %9s %9s", number, run.thread.c_str(),
            run["creel_run_thread_id"], run["creel_run_stalled"] != 0 ? "stalled" : "on",
            short_number(run["creel_tasks"]).c_str(), short_number(run["creel_fibers"]).c_str(),
            rate(before, now, number, "creel_switches_total").c_str(),
            rate(before, now, number, "creel_polls_total").c_str(),
            rate(before, now, number, "creel_waits_total").c_str(),
            rate(before, now, number, "creel_tasks_spawned_total").c_str()));
        if (const std::string stall = stall_of(now.dump, number); !stall.empty())
            lines.push_back("     " + stall);
    }
}

struct group {
    double count = 0;
    double longest_ns = 0;
    std::string where{};
    std::string state{};
};

group group_of(const json& fiber, double count, double longest_ns) {
    group g{count, longest_ns, place_of(fiber["spawned_at"]), fiber["state"].text};
    if (g.where.empty())
        g.where = fiber["kind"].text == "native" ? "(Boost)" : "(main)";
    if (g.state == "parked")
        g.state = fiber["waits_for"].text;
    else
        std::replace(g.state.begin(), g.state.end(), '_', ' ');
    return g;
}

std::vector<std::string> lines_of_groups(const json& dump) {
    std::vector<group> all;
    double others = 0;
    for (const json& run : dump["runs"].items) {
        for (const json& g : run["groups"].items)
            all.push_back(group_of(g["first"], g["count"].number(), g["longest_ns"].number()));
        for (const json& f : run["tree"].items) // a run without tasks
            all.push_back(group_of(f, 1, f["waited_ns"].number()));
        others += run["ungrouped"].number() + run["not_looked_at"].number();
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const group& a, const group& b) { return a.count > b.count; });
    std::vector<std::string> lines{
        printed("%8s %8s  %-28s %s", "FIBERS", "LONGEST", "SPAWNED AT", "WAIT FOR")};
    for (const group& g : all)
        lines.push_back(printed("%8s %8s  %-28s ", short_number(g.count).c_str(),
                                g.longest_ns > 0 ? short_time(g.longest_ns).c_str() : "-",
                                g.where.c_str()) +
                        g.state);
    if (others > 0)
        lines.push_back(printed("%8s %8s  of further groups", short_number(others).c_str(), "-"));
    return lines;
}

} // namespace

look look::take(const std::string& address, const ask_options& options) {
    ask_options bounded = options;
    bounded.most_bytes = 16U << 20;
    look now;
    now.counted = counters::parse(ask(address, "counters", bounded).text);
    const answer dump = ask(address, "dump json fibers=0 frames=0", bounded);
    now.dump = json::parse(dump.text);
    now.whose = of_other_user(dump);
    return now;
}

screen show(const std::string& address, const look& before, const look& now) {
    double runs = 0;
    double stalled = 0;
    double tasks = 0;
    for (const auto& [number, run] : now.counted.runs) {
        runs += run.is_on() ? 1 : 0;
        stalled += run["creel_run_stalled"];
        tasks += run["creel_tasks"];
    }
    screen all;
    all.head.push_back("creel: process " + now.dump["process"].text + now.whose + " at " +
                       printable(address) + ", " + time_of_day());
    all.head.push_back(printed("%.0f run%s, %.0f stalled; ", runs, runs == 1 ? "" : "s", stalled) +
                       short_number(tasks) + (tasks == 1 ? " task" : " tasks"));
    all.head.emplace_back();
    add_runs(all.head, before, now);
    all.head.emplace_back();
    all.groups = lines_of_groups(now.dump);
    return all;
}

} // namespace creelctl
