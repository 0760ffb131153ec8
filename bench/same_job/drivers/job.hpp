#pragma once

// A job has two drivers: one checks a program from outside, the other measures it. Both check each
// reply. A driver plays everything that the program talks to, in one thread, on creel's fibers; it
// is the same for all styles.

#include <array>
#include <chrono>
#include <string>

namespace creel::bench::same_job {

struct load {
    unsigned tasks; // connections; for the crawler, workers
    std::chrono::nanoseconds warm_up;
    std::chrono::nanoseconds window;
    bool count_allocations = false;
};

// The figures of the measured window. Plain data, because it is sent through a pipe.
struct measurement {
    double operations;
    double seconds;
    double cpu_seconds; // of the program
    double p50;         // ns, as the driver sees one operation
    double p99;
    double p999;
    double allocations;       // in the window; 0 if they are not counted
    double idle_bytes;        // resident memory of a task that has nothing to do
    double busy_bytes;        // the same after the window
    double start_nanoseconds; // from fork() until the program reports its port or sends a request
};

// Checks the program at this path. Throws: std::runtime_error that says what it does wrong.
using check_function = void(const std::string& program);
// Throws: the same.
using measure_function = measurement(const std::string& program, const load&);

struct job {
    const char* name;
    check_function* check;
    measure_function* measure;
};

// Each is defined in the folder of its job.
namespace echo {
check_function check;
measure_function measure;
} // namespace echo
namespace fanout {
check_function check;
measure_function measure;
} // namespace fanout
namespace producer_consumer {
check_function check;
measure_function measure;
} // namespace producer_consumer
namespace crawler {
check_function check;
measure_function measure;
} // namespace crawler
namespace chat {
check_function check;
measure_function measure;
} // namespace chat

inline constexpr job echo_job{"echo", echo::check, echo::measure};
inline constexpr job fanout_job{"fanout", fanout::check, fanout::measure};
inline constexpr job producer_consumer_job{"producer_consumer", producer_consumer::check,
                                           producer_consumer::measure};
inline constexpr job crawler_job{"crawler", crawler::check, crawler::measure};
inline constexpr job chat_job{"chat", chat::check, chat::measure};

inline constexpr std::array jobs{&echo_job, &fanout_job, &producer_consumer_job, &crawler_job,
                                 &chat_job};

} // namespace creel::bench::same_job
