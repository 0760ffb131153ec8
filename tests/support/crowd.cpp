#include "support/crowd.hpp"

#include "support/clock_poller.hpp"
#include "support/fixture.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

namespace creel::test {

bool crowd_member::perhaps_cut_short(test_body<> f) {
    if (random() % 2 == 0) {
        f();
        return true;
    }
    return creel::move_on_after(std::chrono::microseconds{random() % 50}, [&] { f(); });
}

void crowd_member::persist(test_body<> f) {
    while (!perhaps_cut_short(f)) {
    }
}

crowd::crowd(const char* test, const crowd_options& options, std::function<void(crowd_member&)> f)
    : options_(options), seed_(printed_seed(test)), limit_(options.time), function_(std::move(f)) {
    const unsigned fibers = options_.schedulers * options_.fibers_each;
    for (unsigned s = 0; s < options_.schedulers; ++s)
        threads_.emplace_back([this, s] { run_scheduler(s); });
    for (unsigned t = 0; t < options_.plain_threads; ++t)
        threads_.emplace_back([this, number = fibers + t] { take_part(number, false); });
}

crowd::~crowd() {
    if (!threads_.empty() && std::uncaught_exceptions() > 0) {
        std::fputs("an exception has ended the test before its crowd was done\n", stderr);
        std::abort();
    }
    join();
}

void crowd::join() {
    for (std::thread& t : threads_)
        t.join();
    threads_.clear();
}

void crowd::run_scheduler(unsigned number) {
    const auto run_fibers = [&] {
        creel::with_nursery([&](creel::nursery& n) {
            for (unsigned i = 0; i < options_.fibers_each; ++i)
                n.spawn([this, member = number * options_.fibers_each + i] {
                    take_part(member, true);
                });
        });
    };
    if (options_.virtual_time) {
        run_virtually(run_fibers, {}, manual_poller::other_threads::yes);
    } else {
        clock_poller outside;
        creel::run_scheduler(outside, {}, run_fibers);
    }
}

void crowd::take_part(unsigned number, bool is_fiber) {
    crowd_member me{number, is_fiber, limit_, std::minstd_rand{seed_ + number}};
    function_(me);
}

void run_crowd(const char* test, const crowd_options& options,
               std::function<void(crowd_member&)> f) {
    crowd{test, options, std::move(f)}.join();
}

void let_others_run() {
    if (creel::on_scheduler())
        creel::this_fiber::yield();
    else
        std::this_thread::yield();
}

} // namespace creel::test
