// The park family: the memory of a fiber that waits, and the time to create it and let it wait. All
// fibers wait for one gate; then the gate opens, and all of them must pass. They wait in their own
// function, or in the innermost of nested calls that keep data. Each measurement has a process of
// its own, because memory that an earlier one left in a free list would make the next one look
// cheap.

#include "alone.hpp"
#include "micro.hpp"
#include "report.hpp"

#include "park/parking.hpp"

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

namespace creel::bench {
namespace {

struct parker {
    const char* name;
    bool is_control;
    values (*run)(parking&);
    values (*run_nested)(parking&);
    // Estimates for each fiber, for the check that all of them fit.
    double bytes;
    double nested_bytes;
};

constexpr parker parkers[] = {
    {"creel", contender, park_creel, park_creel_nested, 5'000, 9'000},
    {"boost_fiber", control, park_boost_fiber, park_boost_fiber_nested, 9'000, 13'000},
    {"coroutine", control, park_coroutine, park_coroutine_nested, 200, 3'000}};

struct crowd {
    bool nested;
    std::uint64_t fibers;
};

constexpr crowd crowds[] = {
    {false, 10'000}, {false, 100'000}, {false, 1'000'000}, {true, 10'000}, {true, 100'000}};
// valgrind maps about 16 GiB of stacks at most
constexpr crowd counted[] = {{false, 10'000}, {true, 10'000}};

std::string case_of(const crowd& c) {
    const std::string fibers = "fibers:" + std::to_string(c.fibers);
    return c.nested ? "calls:" + std::to_string(nested_calls) + "/" + fibers : fibers;
}

// A failed measurement is better than a process, ours or another, that the kernel kills.
void check_memory(double bytes) {
    std::ifstream file{"/proc/meminfo"};
    for (std::string key; file >> key;)
        if (double kib = 0; key == "MemAvailable:" && file >> kib && kib * 1024 < bytes)
            throw std::runtime_error("needs " + std::to_string(bytes / (1 << 30)) +
                                     " GiB of memory, of which " + std::to_string(kib / (1 << 20)) +
                                     " are free");
}

// In a process of its own.
values park_all(const parker& one, const crowd& c, std::uint64_t fibers, meter::purpose purpose) {
    meter meter{fibers, purpose};
    parking work{meter};
    return (c.nested ? one.run_nested : one.run)(work);
}

family make_family() {
    family result;
    result.name = "park";
    result.figures = {{"bytes", "bytes"}, {"create", "ns"}};
    result.rounds = 5;
    for (const auto& c : crowds)
        result.cases.push_back(case_of(c));
    for (const auto& one : parkers)
        result.candidates.push_back(
            {one.name, one.is_control,
             [one](std::size_t which, const effort&) -> values {
                 const auto& c = crowds[which];
                 const double bytes = c.nested ? one.nested_bytes : one.bytes;
                 check_memory(bytes * static_cast<double>(c.fibers) + (1 << 30));
                 return measure_alone(id_of("park", one.name, "", case_of(c)), c.fibers);
             },
             [one](std::size_t which, std::uint64_t fibers) {
                 return park_all(one, crowds[which], fibers, meter::purpose::timing);
             }});
    return result;
}

// All instructions of the creation, with the first touch of all memory.
family make_instruction_family() {
    family result;
    result.name = "park";
    result.figures = {{"create", "instructions"}};
    for (const auto& c : counted)
        result.cases.push_back(case_of(c) + "/instructions");
    result.instructions = true;
    result.rounds = result.quick_rounds = 1;
    for (const auto& one : parkers)
        result.candidates.push_back(
            {one.name, one.is_control,
             [one, cases = result.cases](std::size_t which, const effort&) -> values {
                 const auto id = id_of("park", one.name, "", cases[which]);
                 const auto fibers = counted[which].fibers;
                 const auto with = count_instructions_alone(id, fibers);
                 const auto without = count_instructions_alone(id, 0);
                 return {(static_cast<double>(with) - static_cast<double>(without)) /
                         static_cast<double>(fibers)};
             },
             [one](std::size_t which, std::uint64_t fibers) {
                 return park_all(one, counted[which], fibers, meter::purpose::counting);
             }});
    return result;
}

const registration times{make_family};
const registration instructions{make_instruction_family};

} // namespace
} // namespace creel::bench
