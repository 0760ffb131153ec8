// Boost.Fiber's own fibers and primitives in a run whose fibers do I/O.
#include "clean_run.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/buffered_channel.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>

#include <chrono>
#include <mutex>
#include <string>
#include <utility>

using namespace creel::test;
using namespace std::chrono_literals;

TEST_CASE("Boost fibers wait in Boost's ways and in creel's I/O beside creel's fibers") {
    constexpr int rounds = 50;
    int echoed = 0;
    int passed_on = 0;
    int counted = 0;
    clean_run([&] {
        auto [a, b] = stream_pair();
        boost::fibers::buffered_channel<std::string> channel{4};
        boost::fibers::mutex mutex; // guards counted, and is held over waits
        const auto count = [&] {
            const std::lock_guard lock{mutex};
            const int before = counted;
            boost::this_fiber::yield();
            counted = before + 1;
        };
        boost::fibers::fiber echoing{[&b = b, &count] { // a Boost fiber in creel's recv and send
            for (std::string text = recv_text(b); !text.empty(); text = recv_text(b)) {
                count();
                b.send_all(bytes_of(text));
            }
        }};
        boost::fibers::fiber receiving{[&] {
            for (const std::string& text : channel) {
                passed_on += text == "ping" ? 1 : 0;
                boost::this_fiber::sleep_for(10us);
                count();
            }
        }};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&, &a = a] { // a creel fiber in Boost's channel
                for (int i = 0; i < rounds; ++i) {
                    a.send_all(bytes_of("ping"));
                    std::string text = recv_text(a);
                    echoed += text == "ping" ? 1 : 0;
                    channel.push(std::move(text));
                }
                a.shutdown_send();
                channel.close();
            });
        });
        echoing.join();
        receiving.join();
    });
    CHECK(echoed == rounds);
    CHECK(passed_on == rounds);
    CHECK(counted == 2 * rounds);
}
