// The measurement of the chat job. It plays the members.

#include "../../../system_call.hpp"
#include "../expect.hpp"
#include "../peer.hpp"
#include "../window.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

namespace creel::bench::same_job::chat {
namespace {

// Rooms of eight. Each member has one line under way, and sends the next one when that has come
// back to it. A line is "PLACE: SEQUENCE FILLER\n", 64 bytes.
constexpr std::size_t room_size = 8;
constexpr std::size_t line_bytes = 63; // without its end
constexpr std::size_t sequence_at = 3; // in a line
constexpr std::size_t sequence_digits = 10;
constexpr std::size_t filler_at = sequence_at + sequence_digits;
constexpr std::string_view filler = " is the number of the line; this is the rest of it";
static_assert(filler_at + filler.size() == line_bytes);

// What all members of a measurement share.
struct course : progress {   // its operations are the lines that members get
    std::size_t talking = 0; // members that have a line under way, or will send one
    bool stop = false;
    sync::event silence{}; // none talks any more
};

class measured_member {
public:
    measured_member(std::uint16_t port, std::size_t room, std::size_t place)
        : place_(place), peer_(connect(port)) {
        send("room" + std::to_string(room) + ' ' + std::to_string(place) + '\n');
        std::copy(filler.begin(), filler.end(), text_.begin() + sequence_digits);
        text_.back() = '\n';
    }

    // Before the measurement.
    void send(std::string_view text) { same_job::send(peer_, text); }
    void hear(std::string_view line) {
        require(next_line(peer_, lines_) == line, "a member did not hear another one join");
    }

    // Until the program says BYE and ends.
    void run(course& all) {
        say();
        while (!bye_) {
            require(receive(), "a member's connection ended without BYE");
            const auto received_at = nanoseconds(CLOCK_MONOTONIC);
            const auto own_before = heard_of_[place_];
            while (const auto line = lines_.next())
                take(*line, all);
            if (heard_of_[place_] == own_before)
                continue;
            all.latencies.record(received_at - sent_at_);
            if (!all.stop)
                say();
            else if (--all.talking == 0)
                all.silence.set();
        }
        require(!receive(), "a member got something after BYE");
    }

    [[nodiscard]] std::uint64_t said() const { return said_; }
    // Members that heard the same lines in the same order have the same digest.
    [[nodiscard]] std::uint64_t digest() const { return digest_; }
    [[nodiscard]] std::uint64_t heard_of(std::size_t place) const { return heard_of_[place]; }

private:
    void say() {
        auto left = said_++;
        for (std::size_t i = sequence_digits; i-- > 0; left /= 10)
            text_[i] = static_cast<char>('0' + left % 10);
        sent_at_ = nanoseconds(CLOCK_MONOTONIC);
        peer_.send_all(std::as_bytes(std::span{text_}));
    }

    // False at the end of the stream.
    bool receive() {
        const auto got = peer_.recv(lines_.room());
        lines_.received(got);
        return got != 0;
    }

    void take(std::string_view line, course& all) {
        if (line == "BYE") {
            bye_ = true;
            return;
        }
        require(!bye_ && line.size() == line_bytes && line.substr(1, 2) == ": " &&
                    line.substr(filler_at) == filler,
                "a member heard a line that was not said");
        const auto place = static_cast<std::size_t>(line[0] - '0');
        require(place < room_size, "a member heard another room");
        std::uint64_t sequence = 0;
        for (const char digit : line.substr(sequence_at, sequence_digits))
            sequence = sequence * 10 + static_cast<std::uint64_t>(digit - '0');
        require(sequence == heard_of_[place]++, "a line was lost, came twice or in another order");
        digest_ = (digest_ + place + 1) * 0x9e3779b97f4a7c15ULL;
        ++all.operations;
    }

    std::size_t place_; // in its room, and its name
    io::tcp_stream peer_;
    line_reader lines_{};
    std::array<char, line_bytes - sequence_at + 1> text_{};
    std::array<std::uint64_t, room_size> heard_of_{}; // lines of each member
    std::uint64_t said_ = 0;
    std::uint64_t sent_at_ = 0;
    std::uint64_t digest_ = 0;
    bool bye_ = false;
};

class measuring {
public:
    measuring(const std::string& path, const load& wanted)
        : wanted_(wanted), running_(path, {.count_allocations = wanted.count_allocations}) {
        require(wanted.tasks != 0 && wanted.tasks % room_size == 0,
                "the number of members is not a multiple of 8");
    }

    measurement run() {
        const auto port = running_.read_port();
        seen_.start_nanoseconds = in_nanoseconds(clock::now() - running_.started());
        // What the program allocates for its first member alone is no cost of each member. So one
        // is there before, in a room of its own, and stays.
        measured_member warm{port, wanted_.tasks / room_size, 0};
        warm.send("here\n");
        warm.hear("0: here");
        const auto without_tasks = running_.idle_bytes();
        join(port);
        seen_.idle_bytes = (running_.idle_bytes() - without_tasks) / wanted_.tasks;
        all_.talking = wanted_.tasks;
        with_nursery([&](nursery& n) {
            for (const auto& room : rooms_)
                for (const auto& one : room)
                    n.spawn([&] { one->run(all_); });
            measure_window(running_, wanted_, all_, seen_);
            seen_.busy_bytes = (running_.resident_bytes() - without_tasks) / wanted_.tasks;
            all_.stop = true;
            all_.silence.wait();
            running_.terminate();
        });
        for (const auto& room : rooms_)
            compare(room);
        require(running_.wait() == 0, "its exit status is not 0");
        return seen_;
    }

private:
    using members_of_room = std::vector<std::unique_ptr<measured_member>>;

    // A member knows that it has joined when it hears itself.
    void join(std::uint16_t port) {
        rooms_.resize(wanted_.tasks / room_size);
        with_nursery({.max_children = 16}, [&](nursery& n) {
            for (std::size_t r = 0; r < rooms_.size(); ++r)
                n.spawn([&, r] {
                    members_of_room& all = rooms_[r];
                    for (std::size_t place = 0; place < room_size; ++place) {
                        all.push_back(std::make_unique<measured_member>(port, r, place));
                        all.back()->send("here\n");
                        for (const auto& one : all)
                            one->hear(std::to_string(place) + ": here");
                    }
                });
        });
    }

    static void compare(const members_of_room& all) {
        for (const auto& one : all) {
            require(one->digest() == all[0]->digest(),
                    "members of a room heard lines in different orders");
            for (std::size_t place = 0; place < room_size; ++place)
                require(one->heard_of(place) == all[place]->said(), "a line was lost at the end");
        }
    }

    load wanted_;
    program running_;
    std::vector<members_of_room> rooms_{};
    course all_{};
    measurement seen_{};
};

} // namespace

measurement measure(const std::string& path, const load& wanted) {
    return io::run([&] {
        return within_measurement(wanted,
                                  [&] { return std::make_unique<measuring>(path, wanted)->run(); });
    });
}

} // namespace creel::bench::same_job::chat
