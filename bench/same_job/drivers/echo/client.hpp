#pragma once

// The client of the echo job.

#include "../peer.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace creel::bench::same_job::echo {

constexpr std::size_t period = 65521; // of the pattern
constexpr std::size_t piece = 16384;  // of the pattern, at most, in one call

// What all connections send. The period is a prime number, so that bytes which are lost, repeated
// or out of place do not match. Each connection begins at another place.
class pattern {
public:
    pattern() : bytes_(period + piece) {
        std::minstd_rand random{1};
        for (std::size_t i = 0; i < bytes_.size(); ++i)
            bytes_[i] = i < period ? static_cast<std::byte>(random() >> 8) : bytes_[i - period];
    }

    [[nodiscard]] std::span<const std::byte> at(std::size_t place, std::size_t count) const {
        return std::span{bytes_}.subspan(place % period, std::min(count, piece));
    }

private:
    std::vector<std::byte> bytes_;
};

inline const pattern& text() {
    static const pattern all;
    return all;
}

// A client's connection. One fiber may send while another one receives.
class client {
public:
    client(std::uint16_t port, std::size_t number) : begin_(number * 1009), peer_(connect(port)) {}

    void send(std::size_t count) {
        for (const std::size_t end = sent_ + count; sent_ < end;) {
            const auto part = text().at(begin_ + sent_, end - sent_);
            sent_ += peer_.send(part);
        }
    }

    void receive(std::size_t count) {
        std::array<std::byte, piece> buffer;
        for (const std::size_t end = received_ + count; received_ < end;) {
            const std::size_t wanted = std::min(piece, end - received_);
            const std::size_t got = peer_.recv(std::span{buffer}.first(wanted));
            if (got == 0)
                throw std::runtime_error("the connection ended after " + bytes() + " came back");
            const auto right = text().at(begin_ + received_, got);
            if (std::memcmp(buffer.data(), right.data(), got) != 0)
                throw std::runtime_error("a wrong byte came back, after " + bytes());
            received_ += got;
        }
    }

    // Sends and receives at the same time: the buffers of the kernel need not hold the message.
    void exchange(std::size_t count) {
        with_nursery([&](nursery& n) {
            n.spawn([&] { send(count); });
            receive(count);
        });
    }

    void end_of_sending() { peer_.shutdown_send(); }

    // Receives what is missing, and then the end.
    void receive_rest() {
        receive(sent_ - received_);
        std::array<std::byte, 1> more{};
        if (peer_.recv(more) != 0)
            throw std::runtime_error("more came back than the " + bytes() + " that were sent");
    }

    void finish() {
        end_of_sending();
        receive_rest();
    }

    // The end of this object resets the connection.
    void break_at_the_end() { peer_.set_linger(0s); }

    [[nodiscard]] std::size_t sent() const { return sent_; }

private:
    [[nodiscard]] std::string bytes() const {
        return std::to_string(received_) + " of " + std::to_string(sent_) + " bytes";
    }

    std::size_t begin_; // in the pattern
    std::size_t sent_ = 0;
    std::size_t received_ = 0;
    io::tcp_stream peer_;
};

} // namespace creel::bench::same_job::echo
