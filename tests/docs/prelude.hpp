// What the examples of docs/*.md take for granted.
#pragma once

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
namespace io = creel::io;
using creel::sync::queue;
using creel::sync::semaphore;

struct documented {
    int line;
    void (*run)();
};
extern const std::vector<documented> examples; // of one guide

inline void expect(bool condition, std::source_location where = std::source_location::current()) {
    if (condition)
        return;
    std::fprintf(stderr, "%s:%u: not as the guide says\n", where.file_name(),
                 static_cast<unsigned>(where.line()));
    std::abort();
}

inline std::string fetch(const std::string& name) {
    creel::this_fiber::sleep_for(1ms);
    return "page " + name;
}

inline std::string slow_fetch() {
    creel::this_fiber::sleep_for(24h);
    return "too late";
}

struct job {
    int number = 0;
};
inline void work(const job& j) {
    creel::this_fiber::sleep_for(j.number * 1us);
}
