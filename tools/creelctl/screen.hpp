// What `top` shows, as lines of text.
#pragma once

#include "connection.hpp"
#include "counters.hpp"
#include "json.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace creelctl {

// What the process was like at one moment.
struct look {
    static look take(const std::string& address, const ask_options& options = {});

    counters counted{};
    json dump{};
    std::string whose{}; // see of_other_user()
};

struct screen {
    std::vector<std::string> head{};   // the process and its runs
    std::vector<std::string> groups{}; // of fibers, the largest first; the first line names columns
};

// The rates are those since the look before; that may be the same.
[[nodiscard]] screen show(const std::string& address, const look& before, const look& now);

} // namespace creelctl
