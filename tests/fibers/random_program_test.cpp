// Random programs of structured concurrency: nested scopes with deadlines that move and shields
// that go up and down, cancels with and without grace, tokens of scopes, of nurseries and of
// neither, run in each other and in themselves, nurseries of each policy with and without a limit,
// spawn, async and get, start, all, race, map, remote handles, Boost fibers, and destructors that
// wait, open scopes and nurseries while an exception unwinds. Any fiber cancels any other at any
// time.
//
// Each runs under a virtual clock beside a model that has the rules but not the library's means of
// keeping them (support/cancel_model.hpp). The model checks each wait, the end of each scope,
// nursery, start, all, race, map and get, where a child moves, which child is dropped or refused,
// the results of cancel_called(), of a token and of current_deadline(), uncaught_exceptions(), the
// exception that a handler rethrows, and that each closure is destroyed once. With several threads
// it checks only the facts that no other thread can change.
//
//     CREEL_PROGRAMS=100000 creel_tests_fibers 'random programs*'    that many, from a new seed on
//     CREEL_SEED=12345 creel_tests_fibers 'random programs*'         that one, with its listing
//
// A deadlock fails (manual_poller). SIGALRM ends a program that never ends. For such a program, and
// for one that aborts, the listing and the seed go to stderr.
#include "random_program.hpp"

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/scheduler.hpp>

#include <array>
#include <barrier>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <unistd.h>

using namespace creel::test;

namespace {

constexpr unsigned longest_s = under_tsan || under_asan ? 100 : 20;

// Under TSan each fiber costs 3 ms, see sanitizers.hpp.
constexpr unsigned programs_by_default = under_tsan ? 40 : under_asan ? 300 : 1'500;

creel::scheduler_options options() {
    creel::scheduler_options o;
    o.stack_bytes = std::size_t{1} << 20;
    return o;
}

// Names the program that ended the process.
class watch {
public:
    watch() {
        struct sigaction action {};
        action.sa_handler = &tell;
        action.sa_flags = static_cast<int>(SA_RESETHAND);
        ::sigaction(SIGALRM, &action, &old_alarm_);
        ::sigaction(SIGABRT, &action, &old_abort_);
    }
    ~watch() {
        ::alarm(0);
        ::sigaction(SIGALRM, &old_alarm_, nullptr);
        ::sigaction(SIGABRT, &old_abort_, nullptr);
    }
    static void begins(std::uint32_t seed, const random_program* program) {
        current_seed = seed;
        current = program;
        ::alarm(longest_s);
    }

private:
    // The program does not run meanwhile, so its listing can be read.
    static void tell(int signal) {
        write("\n");
        if (current != nullptr)
            write(current->listing());
        write("random program: seed " + std::to_string(current_seed) +
              (signal == SIGALRM ? " does not end\n" : " aborts\n"));
        ::signal(SIGABRT, SIG_DFL);
        std::abort();
    }
    static void write(std::string_view text) {
        while (!text.empty()) {
            const ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
            if (n <= 0)
                return;
            text.remove_prefix(static_cast<std::size_t>(n));
        }
    }

    static inline std::uint32_t current_seed = 0;
    static inline const random_program* current = nullptr;
    struct sigaction old_alarm_ {};
    struct sigaction old_abort_ {};
};

unsigned number_in(const char* variable, unsigned otherwise) {
    const char* given = std::getenv(variable);
    return given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : otherwise;
}

// The rules that did not hold in the programs of these seeds; empty if all held.
std::string run_programs(std::uint32_t first, unsigned count, feature_counts& done) {
    const watch on_the_end;
    for (std::uint32_t seed = first; seed != first + count; ++seed) {
        std::string failure;
        const auto left = run_virtually(
            [&](manual_poller& outside) {
                random_program program{seed, outside, done};
                watch::begins(seed, &program);
                program.run();
                failure = program.failure();
                if (!failure.empty() || count == 1)
                    std::fputs(program.listing().c_str(), stderr);
                watch::begins(seed, nullptr);
            },
            options());
        if (failure.empty() && left != nothing)
            failure = "nothing is left of a program";
        if (!failure.empty())
            return "seed " + std::to_string(seed) + ": it does not hold that " + failure;
    }
    return {};
}

} // namespace

TEST_CASE("random programs keep the rules, and do all there is to do") {
    if (std::getenv("CREEL_SEED") != nullptr)
        return; // asked for another one
    feature_counts done{};
    CHECK(run_programs(1, programs_by_default, done) == "");
    if (under_tsan)
        return; // too few to do all
    for (std::size_t i = 0; i < done.size(); ++i) {
        INFO(name_of(static_cast<feature>(i)));
        CHECK(done[i] != 0);
    }
}

TEST_CASE("random programs of other seeds keep the rules") {
    const bool given = std::getenv("CREEL_SEED") != nullptr;
    const std::uint32_t first = printed_seed("random programs");
    feature_counts done{};
    CHECK(run_programs(first, number_in("CREEL_PROGRAMS", given ? 1 : programs_by_default / 4),
                       done) == "");
}

TEST_CASE("random programs of several threads that cancel each other come to an end") {
    constexpr std::uint32_t threads = 3;
    const unsigned rounds = number_in("CREEL_PROGRAMS", under_tsan ? 10 : under_asan ? 50 : 300);
    const std::uint32_t first = printed_seed("random programs of several threads");
    const watch on_the_end;
    watch::begins(first, nullptr);
    const time_limit limit{std::chrono::seconds{10}};
    for (unsigned round = 0; round < rounds && !limit.passed(); ++round) {
        const auto shared = make_shared_by_programs();
        std::vector<std::unique_ptr<random_program>> programs{threads};
        std::array<feature_counts, threads> done{};
        std::array<leftovers, threads> left{};
        std::barrier begin{threads};
        std::vector<std::thread> running;
        for (std::uint32_t i = 0; i < threads; ++i)
            running.emplace_back([&, i] {
                begin.arrive_and_wait();
                left[i] = run_virtually(
                    [&](manual_poller& outside) {
                        programs[i] = std::make_unique<random_program>(
                            first + round * threads + i, outside, done[i], shared.get());
                        programs[i]->run();
                    },
                    options(), manual_poller::other_threads::yes);
            });
        for (std::thread& t : running)
            t.join();
        for (std::uint32_t i = 0; i < threads; ++i) {
            INFO("seed " << first + round * threads + i << '\n' << programs[i]->listing());
            REQUIRE(programs[i]->failure() == "");
            REQUIRE(left[i] == nothing);
        }
        REQUIRE(closures_alive(*shared) == 0);
    }
}
