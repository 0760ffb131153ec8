#pragma once

// A job has two drivers: one checks a program from outside, the other measures it. Both check each
// reply. A driver plays everything that the program talks to, in one thread, on creel's fibers; it
// is the same for all styles.

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

struct job {
    const char* name;
    // Throws: std::runtime_error that says what the program did wrong.
    void (*check)(const std::string& program);
    measurement (*measure)(const std::string& program, const load&);
};

extern const job echo;
extern const job fanout;
extern const job producer_consumer;
extern const job crawler;
extern const job chat;

} // namespace creel::bench::same_job
