// The parts of a random program: see random_program.hpp.
#pragma once

#include "random_program.hpp"

#include "support/cancel_model.hpp"
#include "support/gate.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace creel::test {

inline constexpr int most_operations = 120;

using kind_of_policy = error_policy::kind_type;

// How a call ended.
struct outcome {
    enum class kind_type { value, cancelled, task_cancelled, timed_out, logic_error, failed };
    kind_type kind = kind_type::value;
    std::set<int> errors{}; // their numbers; of one that the library has made, too
    bool is_new = false;    // no code has seen it before: the library has made it just now
    bool is_group = false;
    friend bool operator==(const outcome& a, const outcome& b) {
        return a.is_cancelled() == b.is_cancelled() && a.errors == b.errors;
    }
    [[nodiscard]] bool is_value() const { return kind == kind_type::value; }
    [[nodiscard]] bool is_cancelled() const { return kind == kind_type::cancelled; }
    [[nodiscard]] bool is_new_kind(kind_type k) const { return is_new && kind == k; }
};
using ended = outcome::kind_type;

inline std::string to_string(const outcome& o) {
    static constexpr const char* names[]{"value",     "cancelled",   "task_cancelled",
                                         "timed_out", "logic_error", "failed"};
    std::string text = names[static_cast<int>(o.kind)];
    for (const int e : o.errors)
        text += ' ' + std::to_string(e);
    return text;
}

// splitmix64: small, because each fiber has its own, and without the patterns of a congruential
// generator.
class numbers {
public:
    explicit numbers(std::uint64_t seed) : state_(seed) {}
    std::uint32_t seed() { return static_cast<std::uint32_t>(next()); }
    int below(std::size_t n) { return static_cast<int>(next() % n); }
    bool chance(int percent) { return below(100) < percent; }
    duration moment() { return std::chrono::milliseconds{below(4)}; }
    template <typename T>
    auto& one_of(T& from) {
        return from[static_cast<std::size_t>(below(from.size()))];
    }

private:
    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    std::uint64_t state_;
};

inline std::string name_of(const model_scope& s) {
    return "scope s" + std::to_string(s.number);
}
inline std::string name_of(const model_token& t) {
    return "token t" + std::to_string(t.number);
}

inline std::string in_ms(duration d) {
    return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(d).count()) + " ms";
}

// The parts of a program.

struct group;

struct child {
    int number = 0;
    group* parent = nullptr; // start() moves it
    std::uint32_t seed = 0;
    int depth = 0;
    std::vector<group*> in_sight{}; // the nurseries it may spawn into
    model_fiber* fiber = nullptr;   // once it runs
    model_fiber* getter = nullptr;  // in get()
    bool is_child = true;           // false: refused, or not accepted yet
    bool has_closure = true;        // destroyed with it; all() and the like keep theirs
    bool started = false;
    bool has_ended = false;
    bool dropped = false;    // while a cancel was in sight
    bool set_called = false; // of start()
    bool moved = false;
    int closures_gone = 0;
    bool by_cancel = false; // it ended with `cancelled` in a cancelled nursery
    bool astray = false;    // or perhaps so: nothing is checked of it
    outcome how{};
};

// A nursery of the program, or one that the library makes: for start, all, race, map.
struct group {
    std::size_t number = 0;
    std::string what;
    model_scope* scope = nullptr;
    nursery* real = nullptr; // where the program has it
    kind_of_policy policy = kind_of_policy::cancel;
    bool limited = false;
    bool open = true;
    std::vector<child*> children{};
    std::set<int> errors{};
    std::multiset<int> to_report{};
    std::multiset<int> reported{};
    bool cancelled_seen = false; // a member ended with it, or never ran
    bool uncertain = false;
    bool is_race = false;
    child* winner = nullptr;
};

struct held_task {
    task<int> handle;
    child* of;
};

struct pending_set {
    started<int>& ready;
    child& of;
    group& target;
    group& own;
};

// Boost fibers, joined by the destructor. Only random_natives.cpp knows Boost: see CMakeLists.txt.
class native_fibers {
public:
    native_fibers() noexcept;
    ~native_fibers();
    native_fibers(const native_fibers&) = delete;
    native_fibers& operator=(const native_fibers&) = delete;
    void begin(bool at_once, std::function<void()> f);

private:
    struct list;
    std::unique_ptr<list> fibers_; // null until the first
};

// The fiber that runs, as the code on its stack sees it.
struct actor {
    std::string name;
    model_fiber& fiber;
    numbers random;
    int depth = 0;
    std::vector<group*> in_sight{};
    std::vector<held_task>* tasks = nullptr;
    native_fibers* natives = nullptr;
    pending_set* ready = nullptr;
    bool is_native = false;
    std::vector<model_token*> running{}; // tokens it is in run() of
};

struct real_scope {
    model_scope* model;
    creel::cancel_scope* scope;
};

struct known_token {
    model_token* model;
    creel::cancel_token token;
    bool told = false; // that it is cancelled
};

// The event has come before the wait begins: see wait().
inline constexpr time_point already = time_point::min();

struct waited_gate {
    gate g{};
    bool open = false;
    std::vector<model_fiber*> waiting{};
};

class shared_by_programs {
public:
    struct entry {
        remote_nursery nursery;
        random_program::body* program;
        group* parent; // there
    };
    std::vector<creel::cancel_token> tokens = std::vector<creel::cancel_token>(6);
    std::mutex mutex;
    std::vector<entry> entries; // guarded by mutex
    std::atomic<int> closures{0};
};

class random_program::body {
public:
    body(std::uint32_t seed, manual_poller& outside, feature_counts& done,
         shared_by_programs* shared)
        : seed_(seed), outside_(outside), done_(done), shared_(shared), model_(outside) {}

    void run();
    const std::string& failure() const { return failure_; }
    const std::string& listing() const { return listing_; }

private:
    struct operation;
    static const operation operations[];

    // Destroyed with a child's closure.
    struct ticket {
        ticket(body& p, child& c) : program(&p), of(&c) {}
        ticket(ticket&& other) noexcept
            : program(other.program), of(std::exchange(other.of, nullptr)) {}
        ticket& operator=(ticket&&) = delete;
        ~ticket() {
            if (of != nullptr)
                program->closure_gone(*of);
        }
        body* program;
        child* of;
    };

    void block(actor& me);
    void main_block(actor& me);
    void step(actor& me);
    void say(const actor& me, const std::string& what);
    void must(bool holds, std::string_view rule); // also for facts that other threads may change
    void check(bool holds, std::string_view rule) { must(holds || shared_ != nullptr, rule); }
    void did(feature f) { ++done_[static_cast<std::size_t>(f)]; }
    outcome caught();
    int number_of(const std::exception_ptr& error, bool& is_new);
    actor make_actor(std::string name, model_scope* base, std::uint32_t seed, int depth);

    void wait(actor& me, feature f, const std::string& what, time_point decided, test_body<> real,
              bool looks_first = true, bool looks_after = false);
    void yield(actor& me);
    void checkpoint(actor& me);
    void sleep(actor& me);
    void sleep_long(actor& me);
    void sleep_until(actor& me);
    void pass_gate(actor& me);
    void pass_gate_with_timeout(actor& me);
    void open_gate(actor& me);
    void let_one_pass(actor& me);
    void compute(actor& me);

    void throw_error(actor& me);
    void catch_error(actor& me);
    void destructor(actor& me);
    void unwind_into(actor& me);

    using inside_scope = test_body<creel::cancel_scope>;
    using run_in_scope = std::function<bool(inside_scope)>; // false: absorbed
    void enter_scope(actor& me, model_scope& s, const std::string& what, const run_in_scope& run);
    void run_scope(actor& me);
    void move_on(actor& me);
    void fail_after(actor& me);
    void run_shielded(actor& me);
    void stop_token(actor& me);
    void cancel_somebody(actor& me);
    void set_deadline(actor& me);
    void toggle_shield(actor& me);
    void ask_scope(actor& me);
    void ask_deadline(actor& me);
    void check_called(const model_scope& s, const creel::cancel_scope& real);
    real_scope* some_scope(actor& me);

    void take_token(actor& me);
    void make_token(actor& me);
    void run_token(actor& me);
    void cancel_token(actor& me);
    void request_stop(actor& me);
    void ask_token(actor& me);
    void know(model_token& model, const creel::cancel_token& token);
    known_token* some_token(actor& me);

    group& open_group(actor& me, std::string_view what);
    void close_group(actor& me, group& n);
    group* some_nursery(actor& me);
    child& add_child(numbers& random, int depth, group& parent, std::vector<group*> in_sight);
    child& add_child(actor& me, group& parent);
    int run_child(child& c, pending_set* ready = nullptr);
    void note_end(group& n, const outcome& how, bool is_child);
    void closure_gone(child& c);
    void report(group& n, const std::exception_ptr& error);
    void open_nursery(actor& me);
    void check_nursery(const group& n, const outcome& got, bool with_value, bool returned);
    void spawn_somehow(actor& me);
    void spawn(actor& me);
    void async(actor& me);
    void get(actor& me);
    void get(actor& me, held_task& t, feature f);
    void start(actor& me);
    void set_started(actor& me);
    using values_of = std::function<std::vector<int>(const std::vector<child*>&)>;
    void together(actor& me, feature f, std::size_t members, const values_of& call);
    void all(actor& me);
    void race(actor& me);
    void map(actor& me);
    void native(actor& me);
    void spawn_remotely(actor& me);
    void spawn_into_other_thread(actor& me);
    void run_for_other_thread(group& n, std::uint32_t seed);

    const std::uint32_t seed_;
    manual_poller& outside_;
    feature_counts& done_;
    shared_by_programs* const shared_;
    cancel_model model_;
    int left_ = most_operations;
    int actors_ = 0;
    std::string listing_;
    std::string failure_;
    model_scope* root_ = nullptr;
    std::vector<std::exception_ptr> errors_;      // by their numbers
    std::vector<real_scope> scopes_;              // that are entered
    std::set<const model_scope*> told_of_cancel_; // by cancel_called()
    std::deque<known_token> tokens_;
    std::vector<std::pair<std::stop_source, model_token*>> stops_;
    std::array<waited_gate, 3> gates_;
    std::deque<child> children_;
    std::deque<group> groups_;
    std::vector<std::pair<group*, remote_nursery>> remotes_;
};

} // namespace creel::test
