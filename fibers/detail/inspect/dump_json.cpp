// A dump as JSON, for programs.
#include <creel/fibers/detail/inspect/dump.hpp>

#include <creel/fibers/detail/inspect/shown_frames.hpp>
#include <creel/fibers/detail/report/json_string.hpp>

#include <array>
#include <charconv>
#include <chrono>
#include <string>
#include <string_view>
#include <type_traits>

#include <unistd.h>

namespace creel::detail {

namespace {

std::int64_t nanoseconds(duration d) {
    return std::chrono::nanoseconds{d}.count();
}

class json_writer {
public:
    json_writer(code_names& names, bool all_frames) : names_(names), all_frames_(all_frames) {}

    std::string write(const std::vector<run_snapshot>& runs) {
        text_ = "{\"process\":" + std::to_string(::getpid()) + ",\"runs\":";
        write_list(runs, [this](const run_snapshot& r) { write_run(r); });
        text_ += "}\n";
        return std::move(text_);
    }

private:
    template <typename Items, typename Write>
    void write_list(const Items& items, Write write_one) {
        text_ += '[';
        for (const auto& item : items) {
            if (&item != &items.front())
                text_ += ',';
            write_one(item);
        }
        text_ += ']';
    }

    // ,"key":value
    void add(const char* key, std::string_view text) {
        text_.append(",\"").append(key).append("\":").append(json_string(text));
    }
    template <typename T>
        requires std::is_integral_v<T>
    void add(const char* key, T value) {
        text_.append(",\"").append(key).append("\":");
        if constexpr (std::is_same_v<T, bool>)
            text_ += value ? "true" : "false";
        else
            text_ += std::to_string(value);
    }
    void add(const char* key, const std::source_location& where) {
        if (where.line() == 0)
            return;
        text_.append(",\"")
            .append(key)
            .append("\":{\"file\":")
            .append(json_string(where.file_name()));
        add("line", where.line());
        add("function", where.function_name());
        text_ += '}';
    }

    void write_run(const run_snapshot& r) {
        text_ += "{\"thread\":" + std::to_string(r.thread_id);
        add("run", r.number);
        add("thread_name", r.thread_name);
        add("stalled", r.how == run_snapshot::ending::stalled);
        if (r.how == run_snapshot::ending::stalled)
            add("since_last_poll_ns", nanoseconds(clock::now() - r.last_poll));
        add("late", r.how == run_snapshot::ending::late);
        add("whole", r.how == run_snapshot::ending::whole);
        add("begun_at", r.began_at);
        add("tasks", r.tasks);
        add("fibers", r.fibers);
        add("idle_fibers", r.idle_fibers);
        write_runner(r.runs);
        if (!r.does.empty())
            add("does", r.does);
        write_frames("running", r.running);
        text_ += ",\"tree\":";
        parents_.clear();
        write_list(r.tree, [this](const fiber_snapshot& f) { write_listed(f); });
        text_ += ",\"groups\":";
        write_list(r.groups, [this](const fiber_group& g) { write_group(g); });
        add("ungrouped", r.ungrouped);
        add("not_looked_at", r.not_looked_at);
        text_ += '}';
    }

    // Of a stalled thread.
    void write_runner(const running_fiber& f) {
        static constexpr std::array kinds{"unknown", "main", "task", "native", "creel"};
        if (f.kind == running_fiber::kind_type::unknown)
            return;
        text_ += ",\"running_fiber\":{\"number\":" + std::to_string(f.who.id);
        add("kind", kinds.at(static_cast<std::size_t>(f.kind)));
        if (f.kind == running_fiber::kind_type::task) {
            add("name", f.who.name);
            add("spawned_at", f.who.spawned_at);
        }
        text_ += '}';
    }

    // Parents come before their children, so the one of a fiber is the last that was less deep.
    void write_listed(const fiber_snapshot& f) {
        parents_.resize(f.depth);
        write_fiber(f);
        parents_.push_back(f.who.id);
    }

    void write_fiber(const fiber_snapshot& f) {
        static constexpr std::array kinds{"main", "task", "native"};
        static constexpr std::array states{"parked",  "ready",       "elsewhere", "not_parked",
                                           "in_line", "not_started", "ended",     "running"};
        text_ += "{\"number\":" + std::to_string(f.who.id);
        if (!parents_.empty())
            add("parent", parents_.back());
        add("kind", kinds.at(static_cast<std::size_t>(f.kind)));
        add("state", states.at(static_cast<std::size_t>(f.state)));
        if (f.kind == fiber_snapshot::kind_type::task) {
            add("name", f.who.name);
            add("spawned_at", f.who.spawned_at);
            add("nursery", f.nursery);
            add("nursery_opened_at", f.nursery_opened_at);
        }
        if (f.state == fiber_state::parked) {
            add("waits_for", f.waits_for + f.details);
            if (f.held_by != 0) {
                add("held_by", f.held_by);
                add("holder", f.holder);
            }
            add("waited_ns", nanoseconds(f.waited));
        }
        if (f.left)
            add("deadline_in_ns", nanoseconds(*f.left));
        if (!f.cancel.empty()) {
            add("cancel", f.cancel);
            add("cancel_in_effect", f.cancel_is_in_effect);
            add("shielded", f.is_shielded);
        }
        if (f.stack_bytes != 0)
            add("stack_bytes", f.stack_bytes);
        if (f.stack_used_bytes != 0)
            add("stack_used_bytes", f.stack_used_bytes);
        write_frames("frames", f.frames);
        text_ += '}';
    }

    void write_group(const fiber_group& g) {
        text_ += "{\"count\":" + std::to_string(g.fibers);
        if (g.first.state == fiber_state::parked) {
            add("shortest_ns", nanoseconds(g.shortest));
            add("longest_ns", nanoseconds(g.longest));
            add("waits_longest", g.waits_longest);
        }
        text_ += ",\"first\":";
        parents_.clear();
        write_fiber(g.first);
        text_ += '}';
    }

    void write_frames(const char* key, const std::vector<code_address>& frames) {
        if (frames.empty())
            return;
        text_.append(",\"").append(key).append("\":[");
        bool is_first = true;
        for (const shown_frame& f : shown_frames(frames, names_, all_frames_)) {
            text_ += is_first ? "{" : ",{";
            is_first = false;
            write_place(f.address, f.place);
            text_ += '}';
        }
        text_ += ']';
    }

    void write_place(const code_address& address, const code_place& place) {
        std::array<char, 2 * sizeof address.address> digits{};
        const auto end = std::to_chars(digits.begin(), digits.end(), address.address, 16).ptr;
        text_ += "\"address\":\"0x";
        text_.append(digits.data(), end);
        text_ += '"';
        add("function", place.function);
        if (!place.file.empty()) {
            add("file", place.file);
            add("line", place.line);
        } else {
            add("module", place.module);
            add("offset", place.offset);
        }
    }

    code_names& names_;
    const bool all_frames_;
    std::vector<std::uint64_t> parents_{}; // the numbers of those above the next in the tree
    std::string text_{};
};

} // namespace

std::string dump_as_json(const std::vector<run_snapshot>& runs, code_names& names,
                         bool all_frames) {
    return json_writer{names, all_frames}.write(runs);
}

} // namespace creel::detail
