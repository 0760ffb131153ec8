#pragma once

// What a backend of the fanout job does with a request.
//
// The ID of a request says what each backend does with it: four bits for each backend are an
// action, the bits above them are a serial number. So a client knows what has to come back, and the
// backends need not be told.

#include "../expect.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace creel::bench::same_job::fanout {

enum class action : unsigned char {
    // These give a value.
    answer,
    pieces,      // a long value, which comes in pieces
    slow,        // after 20 ms
    close_after, // the value, and then the end
    // The program finds out at once that there is no value.
    close_before,
    close_within, // in the middle of the answer
    reset_before,
    other_id,
    garbage,
    endless, // a line without an end
    // It finds out at the deadline.
    silent,
    late, // answers after 300 ms
};
constexpr std::array<const char*, 12> action_names{
    "an answer", "an answer in pieces", "a slow answer", "an answer and a close",
    "a close",   "half an answer",      "a reset",       "an answer with another ID",
    "garbage",   "an endless line",     "silence",       "a late answer"};
using actions = std::array<action, backends>;
constexpr actions all_answer{action::answer, action::answer, action::answer};

constexpr bool has_value(action what) {
    return what <= action::close_after;
}
constexpr bool waits(action what) {
    return what >= action::silent;
}
constexpr std::size_t index_of(action what) {
    return static_cast<std::size_t>(what);
}

constexpr std::uint64_t make_id(std::uint64_t serial, const actions& each) {
    std::uint64_t id = serial;
    for (const action what : each)
        id = id << 4 | index_of(what);
    return id;
}
constexpr action action_of(std::uint64_t id, std::size_t backend) {
    return static_cast<action>(id >> 4 * (backends - 1 - backend) & 15);
}

// A line of text in an array.
class text {
public:
    text& operator<<(std::string_view part) {
        std::memcpy(bytes_.data() + size_, part.data(), part.size());
        size_ += part.size();
        return *this;
    }
    text& operator<<(std::uint64_t value) {
        char* const end = bytes_.data() + bytes_.size();
        const auto written = std::to_chars(bytes_.data() + size_, end, value);
        size_ = static_cast<std::size_t>(written.ptr - bytes_.data());
        return *this;
    }
    [[nodiscard]] std::string_view view() const { return {bytes_.data(), size_}; }

private:
    std::array<char, longest_line> bytes_;
    std::size_t size_ = 0;
};

inline void write_value(text& line, std::uint64_t id, std::size_t backend) {
    line << mixed(id + backend);
    if (action_of(id, backend) == action::pieces)
        for (int i = 0; i < 16; ++i)
            line << "_a_part_of_it_" << std::uint64_t{100} + backend;
}

} // namespace creel::bench::same_job::fanout
