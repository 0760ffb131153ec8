// Primitives in a child that a fiber forks inside its run.
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/forked.hpp"
#include "support/settle.hpp"

#include "support/check.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/sync/event.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/queue.hpp>

#include <functional>

using namespace creel::test;

TEST_CASE("in a child that is forked inside a run a wait, and what would end one, abort") {
    const auto child = run_in_child([] {
        run_virtually([] {
            creel::sync::mutex held;
            creel::sync::event never;
            creel::sync::queue<int> empty{4};
            const auto aborts = [](const std::function<void()>& f) {
                return was_aborted(status_of_fork(f));
            };
            creel::with_nursery([&](creel::nursery& n) {
                held.lock();
                n.spawn([&] {
                    held.lock();
                    held.unlock();
                });
                n.spawn([&] { never.wait(); });
                n.spawn([&] { static_cast<void>(empty.pop()); });
                settle();
                expect(aborts([&] { held.lock(); }));
                expect(aborts([&] { held.unlock(); })); // hands it to a fiber of the parent process
                expect(aborts([&] { never.wait(); }));
                expect(aborts([&] { never.set(); }));
                expect(aborts([&] { static_cast<void>(empty.push(1)); }));
                expect(status_of_fork([&] { expect(!held.try_lock()); }) == 0);
                held.unlock();
                never.set();
                expect(empty.push(1));
            });
        });
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
    CHECK_THAT(child.stderr_text, Catch::Contains("made by fork() inside io::run"));
}
