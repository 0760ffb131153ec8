// Producers and consumers with a queue between them, as in the asyncio documentation. The queue is
// bounded, so a producer that is too fast waits. join() waits until all jobs are done.
#include <creel/creel.hpp>

#include <chrono>
#include <iostream>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using creel::sync::queue;

namespace {

struct job {
    std::string from;
    int number = 0;
};

void produce(queue<job>& jobs, const std::string& name, int count) {
    for (int i = 1; i <= count; ++i)
        if (!jobs.push(job{name, i})) // waits while the queue is full; false: it was closed
            return;
}

int consume(queue<job>& jobs) {
    int done = 0;
    for (const job& j : jobs) {                       // ends when the queue is closed and empty
        creel::this_fiber::sleep_for(j.number * 1ms); // the work
        ++done;
        jobs.task_done();
    }
    return done;
}

} // namespace

int main() {
    creel::io::run([] {
        queue<job> jobs{4};
        int done = 0;
        creel::with_nursery([&](creel::nursery& consumers) {
            for (int i = 0; i < 3; ++i)
                consumers.spawn([&] { done += consume(jobs); });
            creel::with_nursery([&](creel::nursery& producers) {
                for (const char* name : {"left", "right"})
                    producers.spawn([&jobs, name] { produce(jobs, name, 10); });
            });
            jobs.join(); // waits until every job that was pushed is done
            std::cout << "all done; the consumers may go\n";
            jobs.close();
        });
        std::cout << done << " jobs of 20 were done by 3 consumers\n";
        if (done != 20)
            throw std::runtime_error("a job was lost");
    });
}
