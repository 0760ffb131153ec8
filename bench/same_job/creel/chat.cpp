// The chat job in creel's fibers. A member has two: one receives its lines and puts them into the
// queues of the room, the other sends what is in its own queue. SIGTERM cancels all waits except
// those of the sending fibers, which are shielded and have a second to finish.

#include "../wire.hpp"

#include <creel/creel.hpp>

#include <cstddef>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace io = creel::io;
using creel::sync::queue;

namespace {

using text = std::shared_ptr<const std::string>;                 // all members of a room share it
constexpr std::size_t longest_told = 2 * same_job::longest_line; // a name and a text

struct member {
    explicit member(std::string_view name) : prefix(std::string{name} + ": ") {
        sending.set_shielded(true);
    }

    std::string prefix; // of its lines
    queue<text> lines{same_job::queue_places};
    creel::cancel_scope sending;
};

using room = std::vector<member*>;
using rooms = std::map<std::string, room>;

// No wait, so no member joins or leaves meanwhile, and all queues get the lines in one order.
void tell(const room& members, const member& sender, std::string_view line) {
    std::string all;
    all.reserve(sender.prefix.size() + line.size() + 1);
    all.append(sender.prefix).append(line).append("\n");
    const auto shared = std::make_shared<const std::string>(std::move(all));
    for (member* one : members)
        if (!one->lines.try_push(shared))
            one->sending.cancel("it does not read");
}

// A member is in its room while this object exists. Afterwards it has a second to take what is
// queued.
class membership {
public:
    membership(rooms& all, std::string_view name, member& who)
        : all_(all), place_(all.try_emplace(std::string{name}).first), who_(who) {
        members().push_back(&who_);
    }
    membership(const membership&) = delete;
    membership& operator=(const membership&) = delete;
    ~membership() {
        std::erase(members(), &who_);
        if (members().empty())
            all_.erase(place_);
        who_.lines.close();
        who_.sending.set_deadline(creel::now() + same_job::chat_grace);
    }

    [[nodiscard]] room& members() { return place_->second; }

private:
    rooms& all_;
    rooms::iterator place_;
    member& who_;
};

// Empty at the end of the stream, and when a line is too long.
std::optional<std::string_view> next_line(io::tcp_stream& peer, same_job::line_reader& lines) {
    for (;;) {
        if (const auto line = lines.next())
            return line;
        const std::size_t n = lines.too_long() ? 0 : peer.recv(lines.room());
        if (n == 0)
            return {};
        lines.received(n);
    }
}

void send_lines(io::tcp_stream& peer, queue<text>& lines, const creel::cancel_token& stop) {
    std::string batch;
    while (auto line = lines.pop()) {
        batch = **line;
        while (batch.size() + longest_told <= same_job::longest_batch && (line = lines.try_pop()))
            batch += **line;
        peer.send_all(std::as_bytes(std::span{batch}));
    }
    if (stop.cancelled())
        peer.send_all(std::as_bytes(std::span{std::string_view{"BYE\n"}}));
}

void attend(io::tcp_stream& peer, rooms& all, const creel::cancel_token& stop) {
    same_job::line_reader lines;
    const auto first = next_line(peer, lines);
    const auto words = first ? same_job::split(*first) : std::nullopt;
    if (!words || words->second.find(' ') != std::string_view::npos)
        return;
    member who{words->second};
    creel::with_nursery([&](creel::nursery& n) {
        membership place{all, words->first, who};
        n.spawn([&] {
            who.sending.run([&] { send_lines(peer, who.lines, stop); });
            n.cancel("nothing is left to send");
        });
        while (const auto line = next_line(peer, lines))
            tell(place.members(), who, *line);
    });
}

} // namespace

int main() {
    try {
        io::run({.on_signal = io::throw_interrupted}, [](creel::nursery& root) {
            rooms all;
            const auto stop = root.token();
            const auto silent = creel::report([](std::exception_ptr, const creel::task_info&) {});
            creel::with_nursery({.on_error = silent}, [&](creel::nursery& clients) {
                // The members are not children of serve: it ends at once, the listener closes, and
                // then the nursery waits for their farewell.
                io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
                std::printf("%d\n", listener.local_endpoint().port());
                std::fflush(stdout);
                io::serve({.on_error = silent}, listener, [&](io::tcp_stream peer) {
                    clients.spawn(
                        [&, peer = std::move(peer)]() mutable { attend(peer, all, stop); });
                });
            });
        });
    } catch (const io::interrupted&) {
    }
}
