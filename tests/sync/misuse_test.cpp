// Misuse ends the process, and the message names the object and the line where it was made.
#include <creel/sync/barrier.hpp>
#include <creel/sync/broadcast.hpp>
#include <creel/sync/condition_variable.hpp>
#include <creel/sync/event.hpp>
#include <creel/sync/future.hpp>
#include <creel/sync/latch.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/once.hpp>
#include <creel/sync/pool.hpp>
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/rate_limiter.hpp>
#include <creel/sync/recursive_mutex.hpp>
#include <creel/sync/select.hpp>
#include <creel/sync/semaphore.hpp>
#include <creel/sync/shared_mutex.hpp>
#include <creel/sync/single_flight.hpp>
#include <creel/sync/stack_queue.hpp>
#include <creel/sync/watch.hpp>

#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <cctype>
#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <source_location>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

struct misuse {
    const char* object; // as the message calls it
    const char* text;   // a part of the message
    std::function<void()> commit;
};

// True if the text names the object, and a line of this file as the place where it was made.
bool names(const std::string& text, const std::string& object) {
    const std::string begin = object + " made at ";
    const std::string file = "misuse_test.cpp:";
    for (auto at = text.find(begin); at != std::string::npos; at = text.find(begin, at + 1)) {
        // The whole name: "mutex made at" is also the end of "shared_mutex made at".
        if (at != 0 && (text[at - 1] == '_' || std::islower(text[at - 1]) != 0))
            continue;
        const auto path = at + begin.size();
        const std::string place = text.substr(path, text.find(' ', path) - path);
        const auto name = place.find(file);
        if (name == std::string::npos)
            continue;
        const std::string line = place.substr(name + file.size());
        if (line.size() > 1 && line.find_first_not_of("0123456789") == line.size() - 1 &&
            line.back() == ':')
            return true;
    }
    return false;
}

void check(const misuse& m) {
    const auto child = run_in_child(m.commit);
    INFO(m.object << ": " << m.text << "; " << to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains(m.text));
    CHECK(names(child.stderr_text, m.object));
}

void destroy_while_waited_on(test_body<> wait, test_body<> destroy) {
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] { wait(); });
            creel::this_fiber::yield();
            destroy();
        });
    });
}

// Some callers wait at the object that `make` returns, and then it is destroyed.
template <typename Make, typename Wait>
std::function<void()> destroyed_while_waited_on(Make make, Wait wait) {
    return [make, wait] {
        auto object = std::unique_ptr<std::remove_pointer_t<decltype(make())>>{make()};
        destroy_while_waited_on([&] { wait(*object); }, [&] { object.reset(); });
    };
}

template <typename Queue>
std::function<void()> destroyed_queue() {
    return destroyed_while_waited_on([] { return new Queue(1); },
                                     [](Queue& q) { static_cast<void>(q.pop()); });
}

constexpr const char* waited_on = "destroyed while somebody waits on it";

// An unlock by another fiber of the same thread.
template <typename Mutex>
void unlock_by_another_fiber() {
    run_virtually([] {
        Mutex m;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard hold{m};
                creel::this_fiber::sleep_for(1h);
            });
            creel::this_fiber::yield();
            m.unlock();
        });
    });
}

template <typename Mutex>
void unlock_by_another_thread() {
    Mutex m;
    m.lock();
    std::thread{[&] { m.unlock(); }}.join();
}

// It is unknown which of two readers the unlock stands for, but a writer does not get in beside the
// other reader.
void strange_reader_among_two() {
    run_virtually([] {
        shared_mutex m;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::shared_lock hold{m};
                creel::this_fiber::sleep_for(1h);
            });
            n.spawn([&] {
                const std::shared_lock hold{m};
                creel::this_fiber::sleep_for(1min);
            });
            creel::this_fiber::yield();
            m.unlock_shared();
            m.lock();
        });
    });
}

// The next task on the same fiber does not own what the last task left locked.
template <typename Mutex>
void unlock_by_the_next_task() {
    run_virtually([] {
        Mutex m;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { m.lock(); });
            n.spawn([&] {
                if (!m.owned())
                    m.unlock();
            });
        });
    });
}

// Nor does a thread, although it gets the memory of the thread before it.
template <typename Mutex>
void unlock_by_the_next_thread() {
    Mutex m;
    std::thread{[&] { m.lock(); }}.join();
    std::thread{[&] {
        if (!m.owned())
            m.unlock();
    }}.join();
}

template <typename Mutex>
void unlock_free() {
    Mutex m;
    m.unlock();
}

template <typename Mutex>
void destroy_locked() {
    Mutex m;
    m.lock();
}

template <typename Mutex>
void lock_twice() {
    Mutex m;
    m.lock();
    m.lock();
}

template <typename Mutex>
std::vector<misuse> misuses_of_a_mutex(const char* name) {
    return {
        {name, "unlocked by one who does not hold it", &unlock_by_another_fiber<Mutex>},
        {name, "unlocked by one who does not hold it", &unlock_by_another_thread<Mutex>},
        {name, "unlocked by one who does not hold it", &unlock_by_the_next_task<Mutex>},
        {name, "unlocked by one who does not hold it", &unlock_by_the_next_thread<Mutex>},
        {name, "unlocked, but", &unlock_free<Mutex>},
        {name, "destroyed while it is locked", &destroy_locked<Mutex>},
    };
}

void wait_without_the_lock() {
    condition_variable changed;
    mutex m;
    std::unique_lock hold{m, std::defer_lock};
    changed.wait(hold);
}

} // namespace

TEST_CASE(
    "a primitive destroyed while a caller waits on it says what it is and where it was made") {
    const std::vector<misuse> all{
        {"semaphore", waited_on,
         destroyed_while_waited_on([] { return new semaphore(0); },
                                   [](semaphore& s) { s.acquire(); })},
        {"condition_variable", waited_on,
         destroyed_while_waited_on([] { return new condition_variable; },
                                   [](condition_variable& changed) {
                                       mutex m;
                                       std::unique_lock hold{m};
                                       changed.wait(hold);
                                   })},
        {"latch", waited_on,
         destroyed_while_waited_on([] { return new latch(1); }, [](latch& l) { l.wait(); })},
        {"barrier", waited_on,
         destroyed_while_waited_on([] { return new barrier(4); },
                                   [](barrier& b) { b.arrive_and_wait(); })},
        {"once", waited_on,
         destroyed_while_waited_on(
             [] { return new once; },
             [](once& o) { o.call([] { creel::this_fiber::sleep_for(1h); }); })},
        {"rate_limiter", waited_on,
         destroyed_while_waited_on([] { return new rate_limiter(rate{}); },
                                   [](rate_limiter& limit) { limit.acquire(); })},
        {"broadcast", waited_on,
         destroyed_while_waited_on(
             [] { return new broadcast<int>(1); },
             [](broadcast<int>& b) { static_cast<void>(b.subscribe().receive()); })},
        {"watch", waited_on,
         destroyed_while_waited_on([] { return new watch<int>(1); },
                                   [](watch<int>& w) { static_cast<void>(w.observe().next()); })},
        {"event", waited_on,
         destroyed_while_waited_on([] { return new event; }, [](event& e) { e.wait(); })},
        {"event", waited_on,
         destroyed_while_waited_on([] { return new event; },
                                   [](event& e) { select(on_set(e), on_timer(1h)); })},
        {"queue", waited_on, destroyed_queue<queue<int>>()},
        {"priority_queue", waited_on, destroyed_queue<priority_queue<int>>()},
        {"stack_queue", waited_on, destroyed_queue<stack_queue<int>>()},
        {"mutex", "destroyed while it is locked",
         destroyed_while_waited_on([] { return new mutex; },
                                   [](mutex& m) {
                                       m.lock();
                                       creel::this_fiber::sleep_for(1h);
                                   })},
        {"shared_mutex", "destroyed while it is locked",
         destroyed_while_waited_on([] { return new shared_mutex; },
                                   [](shared_mutex& m) {
                                       m.lock();
                                       creel::this_fiber::sleep_for(1h);
                                   })},
        {"shared_mutex", "destroyed while it is locked",
         destroyed_while_waited_on([] { return new shared_mutex; },
                                   [](shared_mutex& m) {
                                       m.lock_shared();
                                       creel::this_fiber::sleep_for(1h);
                                   })},
    };
    for (const misuse& m : all)
        check(m);
}

TEST_CASE("the place of an object in a message is the line that makes it") {
    const unsigned line = std::source_location::current().line() + 1;
    const auto child = run_in_child([] { semaphore{0}.release(); });
    INFO(to_string(child));
    CHECK_THAT(child.stderr_text, Catch::Contains("semaphore made at ") &&
                                      Catch::Contains("misuse_test.cpp:" + std::to_string(line)));
}

TEST_CASE("misuse of a mutex says what it is and where it was made") {
    for (const auto& some : {misuses_of_a_mutex<mutex>("mutex"),
                             misuses_of_a_mutex<recursive_mutex>("recursive_mutex"),
                             misuses_of_a_mutex<shared_mutex>("shared_mutex")})
        for (const misuse& m : some)
            check(m);
    check({"mutex", "locked again by", &lock_twice<mutex>});
    check({"shared_mutex", "locked again by", &lock_twice<shared_mutex>});
    check({"shared_mutex", "unlocked by a reader, but nobody reads", [] {
               shared_mutex m;
               m.unlock_shared();
           }});
    check({"shared_mutex", "unlocked by a reader who does not hold it", [] {
               shared_mutex m;
               m.lock_shared();
               std::thread{[&] { m.unlock_shared(); }}.join();
           }});
    check({"shared_mutex", "unlocked by a reader who does not hold it", &strange_reader_among_two});
    check({"shared_mutex", "locked again by", [] {
               shared_mutex m;
               m.lock();
               m.lock_shared();
           }});
    check({"shared_mutex", "destroyed while it is locked", [] {
               shared_mutex m;
               m.lock_shared();
           }});
    check({"condition_variable", "with a lock that is not held", &wait_without_the_lock});
}

TEST_CASE("impossible numbers and calls say whose they are and where it was made") {
    const std::vector<misuse> all{
        {"queue", "capacity must not be negative", [] { queue<int>{-1}; }},
        {"priority_queue", "capacity must not be negative", [] { priority_queue<int>{-1}; }},
        {"stack_queue", "capacity must not be negative", [] { stack_queue<int>{-1}; }},
        {"queue", "task_done() more often", [] { queue<int>{1}.task_done(); }},
        {"semaphore", "the number of permits must not be negative", [] { semaphore{-1}; }},
        {"semaphore", "negative number of permits", [] { semaphore{1}.acquire(-1); }},
        {"semaphore", "negative number of permits",
         [] { static_cast<void>(semaphore{1}.try_acquire(-1)); }},
        {"semaphore", "more permits were released", [] { semaphore{1}.release(); }},
        {"semaphore", "semaphore{0, limit}", [] { semaphore{0}.release(); }},
        {"semaphore", "more permits were released",
         [] {
             semaphore{1, 3}.release(3);
         }},
        {"semaphore", "more permits were released",
         [] {
             semaphore s{semaphore::max(), semaphore::max()};
             s.release(semaphore::max());
         }},
        {"semaphore", "a negative number of permits was released",
         [] { semaphore{1}.release(-1); }},
        {"semaphore", "more permits than its limit",
         [] {
             semaphore{4, 3};
         }},
        {"semaphore", "must not be negative",
         [] {
             semaphore{-1, 3};
         }},
        {"semaphore", "negative number of permits", [] { semaphore{1}.resize(-1); }},
        {"latch", "a count must not be negative", [] { latch{-1}; }},
        {"latch", "more than is left", [] { latch{1}.count_down(2); }},
        {"barrier", "at least one", [] { barrier{0}; }},
        {"barrier", "at least one", [] { barrier{-1}; }},
        {"barrier", "more have arrived than were expected",
         [] {
             barrier b{1};
             b.arrive_and_drop();
             static_cast<void>(b.arrive());
         }},
        {"barrier", "more have arrived than were expected",
         [] {
             barrier b{1};
             b.arrive_and_drop();
             b.arrive_and_wait();
         }},
        {"broadcast", "at least one value", [] { broadcast<int>{0}; }},
        {"broadcast", "at least one value", [] { broadcast<int>{-1}; }},
        {"rate_limiter", "more than zero", [] { rate_limiter{{.tokens = 0}}; }},
        {"rate_limiter", "more than zero", [] { rate_limiter{{.per = -1s}}; }},
        {"rate_limiter", "more than zero", [] { rate_limiter{{.burst = -1}}; }},
        {"rate_limiter", "more than zero", [] { rate_limiter{rate{}}.set_rate({.tokens = -1}); }},
        {"rate_limiter", "negative number of tokens", [] { rate_limiter{rate{}}.acquire(-1); }},
        {"rate_limiter", "negative number of tokens",
         [] { static_cast<void>(rate_limiter{rate{}}.try_acquire(-1)); }},
        {"pool", "a limit above 0",
         [] { pool<int>{pool_options<int>{.limit = 0, .create = [] { return 1; }}}; }},
        {"pool", "a create function", [] { pool<int>{pool_options<int>{}}; }},
        {"pool", "something of it is in use",
         [] {
             std::optional<pool<int>::lease> lease;
             pool<int> p{{.limit = 1, .create = [] { return 1; }}};
             lease.emplace(p.acquire());
         }},
        {"future", "null std::exception_ptr", [] { promise<int>{}.set_exception(nullptr); }},
        {"single_flight", "by the function that computes it",
         [] {
             run_virtually([] {
                 single_flight<int, int> flights;
                 flights.run(1,
                             [&] { return flights.run(2, [] { return 1; }); }); // for another key
                 flights.run(1, [&] { return flights.run(1, [] { return 1; }); });
             });
         }},
        {"once", "called again by the function",
         [] {
             once o;
             o.call([&] { o.call([] {}); });
         }},
    };
    for (const misuse& m : all)
        check(m);
}
