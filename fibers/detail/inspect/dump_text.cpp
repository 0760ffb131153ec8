// A dump as text, for people.
#include <creel/fibers/detail/inspect/dump.hpp>

#include <creel/fibers/detail/inspect/shown_frames.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/task_info.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

namespace creel::detail {

namespace {

constexpr std::size_t deepest_dump_indent = 32;

std::string grouped_digits(std::uint64_t number) {
    std::string digits = std::to_string(number);
    for (std::size_t i = digits.size(); i > 3; i -= 3)
        digits.insert(i - 3, 1, ',');
    return digits;
}

std::string counted(std::uint64_t number, const char* thing) {
    return grouped_digits(number) + ' ' + thing + (number == 1 ? "" : "s");
}

// "read_request(int) at server.cpp:61", "poll in /lib/libc.so.6 +0x100ba"
std::string text_of(const code_place& place) {
    std::string text = place.function.empty() ? std::string{"a function without a name"}
                                              : short_name(place.function);
    if (!place.file.empty())
        return text + " at " + place.file + ':' + std::to_string(place.line);
    std::array<char, 32> offset{};
    std::snprintf(offset.data(), offset.size(), " +0x%zx", place.offset);
    return text + " in " + place.module + offset.data();
}

std::string indent(std::size_t depth) {
    return std::string(2 * std::min(depth, deepest_dump_indent), ' ');
}

class text_writer {
public:
    text_writer(code_names& names, bool all_frames) : names_(names), all_frames_(all_frames) {}

    void write_run(const run_snapshot& r) {
        text_ += "run " + std::to_string(r.number) + ": thread " + std::to_string(r.thread_id);
        if (!r.thread_name.empty())
            text_ += " \"" + escaped(r.thread_name) + '"';
        if (r.began_at.line() != 0)
            text_ += ", begun at " + to_text(r.began_at);
        text_ += "; " + counted(r.tasks, "task") + ", " + counted(r.fibers, "fiber") + ", " +
                 grouped_digits(r.idle_fibers) + " of them idle";
        if (r.how == run_snapshot::ending::stalled)
            text_ += ", at its last poll " + to_text(clock::now() - r.last_poll) +
                     " ago\n  stalled: it did not answer within " + to_text(r.patience) + ": " +
                     to_text(r.runs) + ' ' + r.does + "; gdb shows the other fibers";
        if (r.how == run_snapshot::ending::late)
            text_ += "\n  late: it did not answer within " + to_text(r.patience) +
                     (r.progress.sleeps    ? ", but it waits for events"
                      : r.progress.reports ? ", because creel writes a report on it"
                                           : ", but it moves") +
                     ": its fibers are not known";
        text_ += '\n';
        write_frames(r.running, 1);
        for (const fiber_snapshot& f : r.tree)
            write_fiber(f);
        for (const fiber_group& g : r.groups)
            write_group(g);
        if (r.ungrouped != 0)
            text_ += "  " + counted(r.ungrouped, "fiber") + " of further groups\n";
        if (r.not_looked_at != 0)
            text_ += "  " + counted(r.not_looked_at, "task") +
                     " more, which have not started, or have come or gone meanwhile\n";
        if (r.how == run_snapshot::ending::cut_short)
            text_ += "  the rest could not be copied: there was no memory, or a describe() threw\n";
    }

    void write_fiber(const fiber_snapshot& f) {
        text_ += indent(f.depth + 1) + name_of_fiber(f) + nursery_of(f) + state_of(f, false);
        if (f.state == fiber_state::parked)
            text_ += ", for " + to_text(f.waited);
        text_ += limits_of(f) + '\n';
        write_frames(f.frames, f.depth + 1);
    }

    std::string take() { return std::move(text_); }

private:
    static std::string holder_of(const fiber_snapshot& f) {
        return f.held_by == 0 ? std::string{} : ", held by " + escaped(f.holder);
    }

    // The verbs are those of one fiber, or of many.
    static std::string state_of(const fiber_snapshot& f, bool many) {
        switch (f.state) {
        case fiber_state::parked:
            return (many ? " wait for " : " waits for ") + escaped(f.waits_for) +
                   (many ? std::string{} : escaped(f.details) + holder_of(f));
        case fiber_state::ready:
            return many ? " are ready" : " is ready";
        case fiber_state::elsewhere:
            return many ? " wait outside creel" : " waits outside creel";
        case fiber_state::not_parked:
            return many ? " are ready or wait outside creel" : " is ready or waits outside creel";
        case fiber_state::in_line:
            return many ? " have not started: they wait for one of max_fibers to end"
                        : " has not started: it waits for one of max_fibers to end";
        case fiber_state::not_started:
            return many ? " have not started" : " has not started";
        case fiber_state::ended:
            return " has ended meanwhile";
        case fiber_state::running:
            return " runs";
        }
        return {};
    }

    static std::string nursery_of(const fiber_snapshot& f) {
        return f.nursery.empty() ? std::string{} : " in " + escaped(f.nursery);
    }

    static std::string limits_of(const fiber_snapshot& f) {
        std::string text;
        if (f.left)
            text += ", deadline " +
                    (*f.left < duration{} ? to_text(-*f.left) + " ago" : "in " + to_text(*f.left));
        if (!f.cancel.empty())
            text += (f.is_shielded           ? ", shielded from a cancel: "
                     : f.cancel_is_in_effect ? ", cancelled: "
                                             : ", asked to end: ") +
                    escaped(f.cancel);
        if (f.stack_used_bytes != 0)
            text += ", stack " + grouped_digits(f.stack_used_bytes) + " of " +
                    grouped_digits(f.stack_bytes) + " bytes";
        return text;
    }

    void write_group(const fiber_group& g) {
        if (g.fibers == 1) {
            write_fiber(g.first);
            return;
        }
        const fiber_snapshot& f = g.first;
        text_ += "  " + counted(g.fibers, "fiber");
        if (f.kind == fiber_snapshot::kind_type::task)
            text_ += " spawned at " + to_text(f.who.spawned_at) + nursery_of(f);
        else
            text_ += " of Boost";
        text_ += state_of(f, true);
        if (f.state == fiber_state::parked)
            text_ += ", for " + to_text(g.shortest) + " to " + to_text(g.longest) +
                     " (the longest: #" + std::to_string(g.waits_longest) + ')';
        text_ += "; one of them is " + name_of_fiber(f) + limits_of(f) + '\n';
        write_frames(f.frames, 1);
    }

    void write_frames(const std::vector<code_address>& frames, std::size_t depth) {
        text_ += frames_as_text(frames, names_, all_frames_, indent(depth) + "    ");
    }

    code_names& names_;
    const bool all_frames_;
    std::string text_{};
};

} // namespace

std::string name_of_fiber(const fiber_snapshot& f) {
    switch (f.kind) {
    case fiber_snapshot::kind_type::main:
        return "main (#" + std::to_string(f.who.id) + ')';
    case fiber_snapshot::kind_type::native:
        return "Boost fiber #" + std::to_string(f.who.id);
    case fiber_snapshot::kind_type::task:
        break;
    }
    return escaped(to_string(f.who));
}

std::string fibers_as_text(const std::vector<fiber_snapshot>& fibers, code_names& names) {
    text_writer to{names, false};
    for (const fiber_snapshot& f : fibers)
        to.write_fiber(f);
    return to.take();
}

std::string dump_as_text(const std::vector<run_snapshot>& runs, code_names& names,
                         bool all_frames) {
    text_writer to{names, all_frames};
    for (const run_snapshot& r : runs)
        to.write_run(r);
    return runs.empty() ? "no run of creel is on\n" : to.take();
}

std::string frames_as_text(const std::vector<code_address>& frames, code_names& names,
                           bool all_frames, std::string_view begin) {
    std::string text;
    for (const shown_frame& f : shown_frames(frames, names, all_frames))
        text.append(begin).append(escaped(text_of(f.place))) += '\n';
    return text;
}

} // namespace creel::detail
