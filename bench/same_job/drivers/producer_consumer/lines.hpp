#pragma once

// The lines of the producer_consumer job: what the producers send, and what the sink receives.

#include "../../../system_call.hpp"
#include "../expect.hpp"
#include "../peer.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <memory>

namespace creel::bench::same_job::producer_consumer {

// A producer's numbers; its place and the place of the number in its sequence.
constexpr unsigned sequence_bits = 32;
constexpr std::uint64_t number_of(std::size_t producer, std::uint64_t sequence) {
    return (std::uint64_t{producer + 1} << sequence_bits) | sequence;
}
struct origin {
    std::size_t producer;
    std::uint64_t sequence;
};
inline origin origin_of(std::uint64_t number, std::size_t producers) {
    const auto producer = (number >> sequence_bits) - 1;
    require(producer < producers, "a number came that was never sent");
    return {static_cast<std::size_t>(producer), number & ((std::uint64_t{1} << sequence_bits) - 1)};
}

// A block of lines that are sent at once.
class block {
public:
    static constexpr std::uint64_t items = 256;

    // From the sequence number on. Valid until the next call.
    std::span<const std::byte> fill(std::size_t producer, std::uint64_t sequence) {
        char* to = text_.data();
        for (std::uint64_t i = 0; i < items; ++i) {
            to = std::to_chars(to, text_.data() + text_.size(), number_of(producer, sequence + i))
                     .ptr;
            *to++ = '\n';
        }
        return std::as_bytes(std::span{text_}.first(static_cast<std::size_t>(to - text_.data())));
    }

private:
    std::array<char, items * 21> text_; // a number has at most 20 digits
};

// The decimal number at the beginning of the text, which it takes away; 0 if there is none. Faster
// than std::from_chars: the sink must not be slower than the program.
inline std::uint64_t take_number(std::string_view& text) {
    std::uint64_t value = 0;
    std::size_t digits = 0;
    for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits)
        value = value * 10 + static_cast<std::uint64_t>(text[digits] - '0');
    text.remove_prefix(digits);
    return value;
}

// The lines that the program sends to the sink.
class results {
public:
    explicit results(io::tcp_stream& sink) : sink_(sink) {}

    // The number of the next item, after a check of its line; empty at the END line, which must
    // tell the right count and be the last.
    std::optional<std::uint64_t> next() {
        const auto line = next_line();
        require(line.has_value(), "the sink's connection ended without END");
        if (line->starts_with("END ")) {
            require(number(line->substr(4)) == count_, "END has the wrong count");
            require(!next_line(), "the sink got more after END");
            return {};
        }
        std::string_view left = *line;
        const auto number = take_number(left);
        require(left.starts_with(' ') && left.size() < line->size(),
                "the sink got a line that does not begin with a number and a space");
        left.remove_prefix(1);
        require(take_number(left) == mixed(number), "the sink got a wrong mixed value");
        require(left.empty(), "the sink got a line with more than two numbers");
        ++count_;
        return number;
    }

    [[nodiscard]] std::uint64_t count() const { return count_; }
    [[nodiscard]] std::uint64_t received_at() const { return received_at_; }

private:
    // Valid until the next call. Empty at the end of the stream.
    std::optional<std::string_view> next_line() {
        for (;;) {
            if (const auto line = lines_->next())
                return line;
            require(lines_->pending() <= longest_line, "the sink got a line that is too long");
            const auto got = sink_.recv(lines_->room());
            received_at_ = nanoseconds(CLOCK_MONOTONIC);
            if (got == 0) {
                require(lines_->pending() == 0, "the sink got a line without its end");
                return {};
            }
            lines_->received(got);
        }
    }

    using reader = basic_line_reader<std::size_t{64} << 10>;

    io::tcp_stream& sink_;
    std::unique_ptr<reader> lines_ = std::make_unique<reader>();
    std::uint64_t count_ = 0;
    std::uint64_t received_at_ = 0;
};

} // namespace creel::bench::same_job::producer_consumer
