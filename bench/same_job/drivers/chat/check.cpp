// The check of the chat job. It plays the members.

#include "../job.hpp"
#include "../program.hpp"
#include "member.hpp"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <random>

namespace creel::bench::same_job::chat {
namespace {

constexpr auto most_grace = 2500ms; // the grace is 1 s, and the machine may be busy

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
                while (logs[k].size() < all.size() * lines_of_each)
                    logs[k].push_back(all[k]->hear_line());
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
                    logs[k].push_back(steady[k]->hear_line());
                    last += logs[k].back().ends_with(": last") ? 1 : 0;
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
constexpr int burst_lines = static_cast<int>(queue_places / 4);

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
    server.wait_for_descriptors(before + 3); // those of the parts before are gone
    const auto memory = server.resident_bytes();
    int said = 0;
    while (server.descriptors() == before + 3) {
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
        if (!line && clock::now() - terminated >= chat_grace)
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
    const auto connected = server.descriptors();
    for (int i = 0; i < count; i += burst_lines)
        say_and_hear(*busy[0], {busy[0].get()}, long_texts(i, std::min(count, i + burst_lines)));
    log queued;
    for (const auto& text : long_texts(0, count))
        queued.push_back(busy[0]->line_of(text));
    log calm_lines;
    for (int i = 0; i < 20; ++i)
        append(calm_lines, calm[0]->say_and_hear(std::to_string(i)));
    if (server.descriptors() < connected)
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

// The descriptors that the program has without clients, after its first one.
std::ptrdiff_t own_descriptors(const program& server, std::uint16_t port) {
    std::ptrdiff_t own = 0;
    {
        member one{port, "first", "ann"};
        one.say_and_hear("hello");
        own = server.descriptors() - 1;
    }
    server.wait_for_descriptors(own);
    return own;
}

} // namespace

void check(const std::string& path) {
    io::run([&] {
        program server{path, {}};
        const auto port = within(patience, "its start", [&] { return server.read_port(); });
        const auto before =
            within(patience, "a single member", [&] { return own_descriptors(server, port); });
        within(patience, "three rooms", [&] { use_rooms(port); });
        within(patience, "members that come and go", [&] { come_and_go(port); });
        const int buffered = within(patience, "a member that does not read",
                                    [&] { return drop_slow(server, port, before); });
        within(patience, "clients that break the rules", [&] { refuse_malformed(port); });
        within(patience, "the close of all its connections",
               [&] { server.wait_for_descriptors(before); });
        within(3 * patience, "SIGTERM", [&] {
            shut_down_in_time(path, server, port, buffered + static_cast<int>(queue_places / 2));
        });
    });
}

} // namespace creel::bench::same_job::chat
