// The drivers of the chat job. They play the members.

#include "job.hpp"
#include "program.hpp"

#include "../../statistics.hpp"
#include "../../system_call.hpp"
#include "../wire.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace creel::bench::same_job {
namespace {

using namespace std::chrono_literals;
using ::same_job::longest_line;
using log = std::vector<std::string>; // lines, in the order in which a member heard them

constexpr auto patience = 20s;                  // for each part
constexpr auto at_once = patience / 2;          // what is not done at once is never done
constexpr auto most_grace = 2500ms;             // the grace is 1 s, and the machine may be busy
constexpr std::uint64_t most_growth = 16 << 20; // of the program's memory, which is bounded

void require(bool is_so, const std::string& otherwise) {
    if (!is_so)
        throw std::runtime_error(otherwise);
}

// Runs a part of a driver. Its errors get its name.
void within(duration limit, const std::string& what, const std::function<void()>& part) {
    try {
        fail_after(limit, part);
    } catch (const timed_out&) {
        const auto time = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
        throw std::runtime_error(what + ": not done after " + std::to_string(time) + " ms");
    } catch (const std::exception& error) {
        throw std::runtime_error(what + ": " + error.what());
    }
}

std::ptrdiff_t descriptors(const program& server) {
    const std::filesystem::directory_iterator all{"/proc/" + std::to_string(server.pid()) + "/fd"};
    return std::distance(begin(all), end(all));
}

// Until the program has closed the connections of clients that have left.
void wait_for_descriptors(const program& server, std::ptrdiff_t count) {
    while (descriptors(server) != count)
        this_fiber::sleep_for(5ms);
}

// A connection, of a member or of a client that is none.
class client {
public:
    client(std::uint16_t port, std::string_view first, const io::stream_options& options = {})
        : peer_(io::tcp_stream::connect(io::endpoint{"127.0.0.1", port}, options)) {
        send(first);
    }

    void send(std::string_view text) { peer_.send_all(std::as_bytes(std::span{text})); }

    // Valid until the next call. Empty at the end, also if the connection was reset.
    std::optional<std::string_view> hear() {
        for (;;) {
            const char* const from = bytes_.data() + begin_;
            if (const auto* newline =
                    static_cast<const char*>(std::memchr(from, '\n', end_ - begin_))) {
                const auto size = static_cast<std::size_t>(newline - from);
                begin_ += size + 1;
                return std::string_view{from, size};
            }
            std::memmove(bytes_.data(), from, end_ - begin_);
            end_ -= std::exchange(begin_, 0);
            require(end_ < bytes_.size(), "a member got a line that is too long");
            try {
                const auto space = std::as_writable_bytes(std::span{bytes_}.subspan(end_));
                const auto got = peer_.recv(space);
                if (got == 0)
                    return {};
                end_ += got;
            } catch (const std::system_error&) {
                broken_ = true;
                return {};
            }
        }
    }
    // The program must end the connection, and send nothing before.
    void hear_end() { require(!hear(), "a client got a line that it should not get"); }
    // The same, and all that came were whole lines and an end of file.
    void hear_clean_end() {
        hear_end();
        require(!broken_ && end_ == 0, "a connection did not end after a whole line");
    }

    void end_of_sending() { peer_.shutdown_send(); }
    void reset() {
        peer_.set_linger(0s);
        peer_.close();
    }

private:
    io::tcp_stream peer_;
    std::array<char, 4 * longest_line> bytes_; // a name and a text may each fill a line
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    bool broken_ = false;
};

class member : public client {
public:
    member(std::uint16_t port, const std::string& room, const std::string& name,
           const io::stream_options& options = {})
        : client(port, room + ' ' + name + '\n', options), prefix_(name + ": ") {}

    [[nodiscard]] std::string line_of(std::string_view text) const {
        return prefix_ + std::string{text};
    }

    void say(std::string_view text) { send(std::string{text} + '\n'); }

    // Hears lines until its own one comes, which is the last one in the result.
    log hear_until(std::string_view text) {
        const auto wanted = line_of(text);
        log all;
        while (all.empty() || all.back() != wanted) {
            const auto line = hear();
            require(line.has_value(), "a member's connection ended");
            all.emplace_back(*line);
        }
        return all;
    }
    log say_and_hear(std::string_view text) {
        say(text);
        return hear_until(text);
    }

private:
    std::string prefix_;
};

using members = std::vector<std::unique_ptr<member>>;

// One after the other, and each has heard of those that came later.
members join(std::uint16_t port, const std::string& room, const std::vector<std::string>& names) {
    members all;
    for (const auto& name : names) {
        all.push_back(std::make_unique<member>(port, room, name));
        all.back()->say("here");
        for (const auto& one : all)
            require(one->hear() == name + ": here", "a member did not hear another one join");
    }
    return all;
}

// Says the texts, all at once, which are fewer than a queue has places. All hear them.
void say_and_hear(member& talking, std::initializer_list<member*> hearing,
                  std::span<const std::string> texts) {
    std::string all;
    for (const auto& text : texts)
        all += text + '\n';
    talking.send(all);
    for (auto* one : hearing)
        for (const auto& text : texts)
            require(one->hear() == talking.line_of(text),
                    "a member heard other lines beside one that does not read");
}

void append(log& all, log more) {
    std::move(more.begin(), more.end(), std::back_inserter(all));
}

// The texts of a member: each tells where it comes from, and some have the greatest length.
std::string text_of(const std::string& room, const std::string& name, int i) {
    if (i == 0)
        return {};
    auto text = room + ": " + name + ' ' + std::to_string(i);
    if (i % 7 == 3)
        text.resize(longest_line - 1, '.');
    return text;
}

// A member says its texts. The next one goes when the last one has come back.
log talk(member& one, const std::vector<std::string>& texts, std::minstd_rand& random) {
    log heard;
    for (const auto& text : texts) {
        const auto line = text + '\n';
        for (std::string_view left = line; !left.empty();) {
            const auto part = left.substr(0, random() % 3 == 0 ? random() % 7 + 1 : left.size());
            one.send(part);
            left.remove_prefix(part.size());
        }
        append(heard, one.hear_until(text));
    }
    return heard;
}

void use_room(std::uint16_t port, const std::string& room) {
    constexpr int lines_of_each = 60;
    const std::vector<std::string> names{"ann", "bob", "eve", "dan", "r"};
    const auto all = join(port, room, names);
    std::vector<log> logs(all.size());
    std::vector<log> texts(all.size());
    for (std::size_t k = 0; k < all.size(); ++k)
        for (int i = 0; i < lines_of_each; ++i)
            texts[k].push_back(text_of(room, names[k], i));
    with_nursery([&](nursery& n) {
        for (std::size_t k = 0; k < all.size(); ++k)
            n.spawn([&, k] {
                std::minstd_rand random{static_cast<unsigned>(k + 1)};
                logs[k] = talk(*all[k], texts[k], random);
                while (logs[k].size() < all.size() * lines_of_each) {
                    const auto line = all[k]->hear();
                    require(line.has_value(), "a member's connection ended");
                    logs[k].emplace_back(*line);
                }
            });
    });
    for (const auto& one : logs)
        require(one == logs[0], "the members of a room heard different lines, or another order");
    for (std::size_t k = 0; k < all.size(); ++k) {
        log own;
        for (const auto& line : logs[0])
            if (line.starts_with(names[k] + ": "))
                own.push_back(line.substr(names[k].size() + 2));
        require(own == texts[k], "a member's lines were lost, changed or in another order");
    }
    // Many lines in one segment, fewer than a queue has places.
    std::string burst;
    for (int i = 0; i < 50; ++i)
        burst += std::to_string(i) + '\n';
    all[0]->send(burst);
    for (const auto& one : all)
        for (int i = 0; i < 50; ++i)
            require(one->hear() == names[0] + ": " + std::to_string(i),
                    "lines that were sent together were lost, or in another order");
}

void use_rooms(std::uint16_t port) {
    with_nursery([&](nursery& n) {
        for (const std::string room : {"red", "blue", "r"})
            n.spawn([&, room] { use_room(port, room); });
    });
}

// Says that it is there and leaves in one of four ways. What it heard is a part of `steady`'s log.
log visit(std::uint16_t port, int number) {
    const auto text = "visit " + std::to_string(number);
    member visitor{port, "lobby", "visitor" + std::to_string(number)};
    auto heard = visitor.say_and_hear(text);
    switch (number % 4) {
    case 0: // what is queued may come, and then the end
        visitor.end_of_sending();
        while (const auto line = visitor.hear())
            heard.emplace_back(*line);
        break;
    case 1:
        visitor.reset();
        break;
    case 2: // it leaves without reading what has come
        this_fiber::sleep_for(5ms);
        break;
    default: // in the middle of a line
        visitor.send("half a li");
    }
    return heard;
}

void come_and_go(std::uint16_t port) {
    constexpr int visits = 40;
    const auto steady = join(port, "lobby", {"ann", "bob", "eve"});
    std::vector<log> logs(steady.size());
    std::vector<log> visitors(visits);
    bool over = false;
    with_nursery([&](nursery& n) {
        for (std::size_t k = 0; k < steady.size(); ++k)
            n.spawn([&, k] {
                int i = 0;
                while (!over)
                    append(logs[k], steady[k]->say_and_hear(std::to_string(i++)));
                steady[k]->say("last");
                for (std::size_t last = 0; last < steady.size();) {
                    const auto line = steady[k]->hear();
                    require(line.has_value(), "a member's connection ended");
                    last += line->ends_with(": last") ? 1 : 0;
                    logs[k].emplace_back(*line);
                }
            });
        with_nursery([&](nursery& visiting) {
            for (int i = 0; i < visits; ++i) {
                visiting.spawn([&, i] { visitors[static_cast<std::size_t>(i)] = visit(port, i); });
                this_fiber::sleep_for(2ms);
            }
        });
        over = true;
    });
    // A member says "last" while others may still talk. All lines are there when it has heard the
    // "last" of all.
    for (const auto& one : logs)
        require(one == logs[0], "members heard different lines while others came and went");
    for (const auto& one : visitors)
        require(std::search(logs[0].begin(), logs[0].end(), one.begin(), one.end()) !=
                    logs[0].end(),
                "a visitor heard lines in another order than the others");
}

// The slow member's socket takes little, so that most is left to the program.
constexpr io::stream_options slow_options{.receive_buffer_bytes = 4096};

constexpr int most_buffered = 16'000; // long texts, which are more than the kernel buffers

std::string long_text(int i) {
    auto text = std::to_string(i);
    text.resize(1000, '.');
    return text;
}

log long_texts(int from, int to) {
    log all;
    for (int i = from; i < to; ++i)
        all.push_back(long_text(i));
    return all;
}

// Lines that are said at once. They fill a quarter of a queue, so that the queue of a member that
// does not read is full only when the kernel takes no more.
constexpr int burst_lines = static_cast<int>(::same_job::queue_places / 4);

// A member does not read while another one talks. It is dropped, and the others hear all. Returns
// how many lines it got, which is how many the kernel buffers for it. `before` counts the
// descriptors of the program without members.
int drop_slow(const program& server, std::uint16_t port, std::ptrdiff_t before) {
    const auto others = join(port, "busy", {"ann", "bob"});
    member& talking = *others[0];
    member& listening = *others[1];
    member slow{port, "busy", "slow", slow_options};
    slow.say("here");
    for (auto* one : {&talking, &listening, &slow})
        require(one->hear() == "slow: here", "a member did not hear another one join");
    wait_for_descriptors(server, before + 3); // those of the parts before are gone
    const auto memory = server.resident_bytes();
    int said = 0;
    while (descriptors(server) == before + 3) {
        require(said < most_buffered, "a member that does not read is not dropped");
        say_and_hear(talking, {&talking, &listening}, long_texts(said, said + burst_lines));
        said += burst_lines;
    }
    require(server.resident_bytes() < memory + most_growth,
            "the program's memory grows while a member does not read");
    int got = 0;
    while (const auto line = slow.hear())
        require(*line == "ann: " + long_text(got++), "a slow member heard other lines");
    require(got < said, "a member that did not read got more than was said");
    return got;
}

void refuse_malformed(std::uint16_t port) {
    const auto steady = join(port, "a", {"b", "c"});
    for (const std::string& first :
         {std::string{"alone\n"}, std::string{" b\n"}, std::string{"a \n"}, std::string{"\n"},
          std::string{"a d e\n"}, "a " + std::string(longest_line - 2, 'd') + '\n',
          std::string(longest_line, 'a')}) {
        client other{port, first};
        within(at_once,
               "the first line '" + first.substr(0, std::min<std::size_t>(9, first.size() - 1)) +
                   "'",
               [&] { other.hear_end(); });
    }
    // Those that leave before they are members.
    client{port, ""}.reset();
    client{port, "a d"}.end_of_sending();
    // The longest text, and one that is longer, with its end and without.
    const std::string longest(longest_line - 1, '.');
    for (const auto& more : {std::string{".\n"}, std::string{"."}}) {
        member careless{port, "a", "d"};
        require(careless.say_and_hear(longest).size() == 1, "a member heard too much");
        careless.send(longest + more);
        within(at_once, "a line that is too long", [&] { careless.hear_end(); });
    }
    for (const auto& one : steady)
        for (int i = 0; i < 2; ++i)
            require(one->hear() == "d: " + longest, "a member did not hear the longest line");
    steady[0]->say("end");
    for (const auto& one : steady)
        require(one->hear() == "b: end", "a member heard a client that broke the rules");
}

void expect_refusal(std::uint16_t port) {
    for (;;) {
        try {
            client{port, ""}.reset();
        } catch (const std::system_error& error) {
            if (error.code() == std::errc::connection_refused)
                return;
        }
        this_fiber::sleep_for(5ms);
    }
}

// A check that has a limit of time failed, perhaps because the machine is busy.
class too_slow : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Hears what the program still has to send after SIGTERM. If the member is cut off, the program may
// have waited for it as long as it has to: `terminated` is a time before the signal.
void hear_rest(member& one, const log& rest, clock::time_point terminated) {
    const auto hear = [&](const std::string& wanted, const char* otherwise) {
        const auto line = one.hear();
        if (!line && clock::now() - terminated >= ::same_job::chat_grace)
            throw too_slow(otherwise);
        require(line == wanted, otherwise);
    };
    for (const auto& line : rest)
        hear(line, "after SIGTERM a member did not get all that was queued");
    hear("BYE", "after SIGTERM a member got no BYE");
    one.hear_clean_end();
}

// Two members do not read. The number of lines is what the kernel buffers for each and half a
// queue, so they are not dropped. When the program has to end, one of them reads all that was
// queued, and the other one still nothing.
void shut_down(program& server, std::uint16_t port, int count) {
    const auto calm = join(port, "calm", {"ann", "bob", "eve"});
    const auto busy = join(port, "busy", {"ann"});
    member late{port, "busy", "late", slow_options};
    member never{port, "busy", "never", slow_options};
    client nameless{port, ""};
    late.say_and_hear("here");
    require(busy[0]->hear() == "late: here", "a member did not hear another one join");
    never.say_and_hear("here");
    for (auto* one : {busy[0].get(), &late})
        require(one->hear() == "never: here", "a member did not hear another one join");
    const auto connected = descriptors(server);
    for (int i = 0; i < count; i += burst_lines)
        say_and_hear(*busy[0], {busy[0].get()}, long_texts(i, std::min(count, i + burst_lines)));
    log queued;
    for (const auto& text : long_texts(0, count))
        queued.push_back(busy[0]->line_of(text));
    log calm_lines;
    for (int i = 0; i < 20; ++i)
        append(calm_lines, calm[0]->say_and_hear(std::to_string(i)));
    if (descriptors(server) < connected)
        throw too_slow("a member was dropped with half a queue; or the kernel buffers less");

    const auto terminated = clock::now();
    auto refused = terminated;
    auto ended = terminated;
    server.terminate();
    with_nursery([&](nursery& n) {
        n.spawn([&] {
            within(at_once, "the refusal of new connections", [&] { expect_refusal(port); });
            refused = clock::now();
        });
        n.spawn([&] {
            within(at_once, "the end of the program",
                   [&] { require(server.wait() == 0, "its exit status is not 0"); });
            ended = clock::now();
        });
        hear_rest(late, queued, terminated);
        hear_rest(*busy[0], {}, terminated);
        hear_rest(*calm[0], {}, terminated);
        hear_rest(*calm[1], calm_lines, terminated);
        hear_rest(*calm[2], calm_lines, terminated);
        nameless.hear_end();
    });
    if (ended - terminated > most_grace)
        throw too_slow("it did not cut off a member that took nothing");
    // It waits a second for that member, and refuses new ones from the beginning of this second.
    if (refused - terminated > (ended - terminated) / 2)
        throw too_slow("it accepted connections after SIGTERM");
}

// A fault shows each time; a busy machine hardly three times.
void shut_down_in_time(const std::string& path, program& first, std::uint16_t port, int count) {
    try {
        return shut_down(first, port, count);
    } catch (const too_slow&) {
    }
    for (int left = 2;; --left) {
        try {
            program server{path, {}};
            return shut_down(server, server.read_port(), count);
        } catch (const too_slow&) {
            if (left == 1)
                throw;
        }
    }
}

void check(const std::string& path) {
    io::run([&] {
        program server{path, {}};
        std::uint16_t port = 0;
        within(patience, "its start", [&] { port = server.read_port(); });
        std::ptrdiff_t before = 0; // descriptors, without clients
        within(patience, "a single member", [&] {
            {
                member one{port, "first", "ann"};
                one.say_and_hear("hello");
                before = descriptors(server) - 1;
            }
            wait_for_descriptors(server, before);
        });
        int buffered = 0;
        within(patience, "three rooms", [&] { use_rooms(port); });
        within(patience, "members that come and go", [&] { come_and_go(port); });
        within(patience, "a member that does not read",
               [&] { buffered = drop_slow(server, port, before); });
        within(patience, "clients that break the rules", [&] { refuse_malformed(port); });
        within(patience, "the close of all its connections",
               [&] { wait_for_descriptors(server, before); });
        within(3 * patience, "SIGTERM", [&] {
            shut_down_in_time(path, server, port,
                              buffered + static_cast<int>(::same_job::queue_places / 2));
        });
    });
}

// The measurement: rooms of eight. Each member has one line under way, and sends the next one when
// that has come back to it. A line is "PLACE: SEQUENCE FILLER\n", 64 bytes.
constexpr std::size_t room_size = 8;
constexpr std::size_t line_bytes = 63; // without its end
constexpr std::size_t sequence_at = 3; // in a line
constexpr std::size_t sequence_digits = 10;
constexpr std::size_t filler_at = sequence_at + sequence_digits;
constexpr std::string_view filler = " is the number of the line; this is the rest of it";
static_assert(filler_at + filler.size() == line_bytes);

// What all members of a measurement share.
struct course {
    latency_histogram latencies{};
    std::uint64_t delivered = 0; // lines, to members
    std::size_t talking = 0;     // members that have a line under way, or will send one
    bool stop = false;
    sync::event silence{}; // none talks any more
};

class measured_member {
public:
    measured_member(std::uint16_t port, std::size_t room, std::size_t place)
        : place_(place), peer_(io::tcp_stream::connect(io::endpoint{"127.0.0.1", port})) {
        send("room" + std::to_string(room) + ' ' + std::to_string(place) + '\n');
        std::copy(filler.begin(), filler.end(), text_.begin() + sequence_digits);
        text_.back() = '\n';
    }

    // Before the measurement.
    void send(std::string_view text) { peer_.send_all(std::as_bytes(std::span{text})); }
    void hear(std::string_view line) {
        std::optional<std::string_view> next;
        while (!(next = lines_.next()))
            require(receive(), "a member's connection ended");
        require(next == line, "a member did not hear another one join");
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
        ++all.delivered;
    }

    std::size_t place_; // in its room, and its name
    io::tcp_stream peer_;
    ::same_job::line_reader lines_{};
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
        const std::chrono::duration<double, std::nano> start = clock::now() - running_.started();
        seen_.start_nanoseconds = start.count();
        // What the program allocates for its first member alone is no cost of each member. So one
        // is there before, in a room of its own, and stays.
        measured_member warm{port, wanted_.tasks / room_size, 0};
        warm.send("here\n");
        warm.hear("0: here");
        const auto without_tasks = idle_memory();
        join(port);
        seen_.idle_bytes = (idle_memory() - without_tasks) / wanted_.tasks;
        all_.talking = wanted_.tasks;
        with_nursery([&](nursery& n) {
            for (const auto& room : rooms_)
                for (const auto& one : room)
                    n.spawn([&] { one->run(all_); });
            measure_window();
            seen_.busy_bytes = (memory() - without_tasks) / wanted_.tasks;
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

    void measure_window() {
        this_fiber::sleep_for(wanted_.warm_up);
        all_.latencies.clear();
        const auto delivered = all_.delivered;
        const auto allocations = running_.allocations();
        const auto cpu = running_.cpu_time();
        const auto begin = clock::now();
        this_fiber::sleep_for(wanted_.window);
        seen_.operations = static_cast<double>(all_.delivered - delivered);
        seen_.seconds = std::chrono::duration<double>(clock::now() - begin).count();
        seen_.cpu_seconds = std::chrono::duration<double>(running_.cpu_time() - cpu).count();
        seen_.allocations = static_cast<double>(running_.allocations() - allocations);
        seen_.p50 = all_.latencies.percentile(0.5);
        seen_.p99 = all_.latencies.percentile(0.99);
        seen_.p999 = all_.latencies.percentile(0.999);
        require(seen_.operations > 0, "no line came in the measured window");
    }

    static void compare(const members_of_room& all) {
        for (const auto& one : all) {
            require(one->digest() == all[0]->digest(),
                    "members of a room heard lines in different orders");
            for (std::size_t place = 0; place < room_size; ++place)
                require(one->heard_of(place) == all[place]->said(), "a line was lost at the end");
        }
    }

    [[nodiscard]] double memory() const { return static_cast<double>(running_.resident_bytes()); }

    // Waits until the program has done what it was given: for 40 ms it uses no CPU time.
    [[nodiscard]] double idle_memory() const {
        for (auto before = -1ns; before != running_.cpu_time();) {
            before = running_.cpu_time();
            this_fiber::sleep_for(40ms);
        }
        return memory();
    }

    load wanted_;
    program running_;
    std::vector<members_of_room> rooms_{};
    course all_{};
    measurement seen_{};
};

measurement measure(const std::string& path, const load& wanted) {
    measurement seen{};
    io::run([&] {
        within(wanted.warm_up + wanted.window + patience, "the measurement",
               [&] { seen = std::make_unique<measuring>(path, wanted)->run(); });
    });
    return seen;
}

} // namespace

const job chat{"chat", check, measure};

} // namespace creel::bench::same_job
