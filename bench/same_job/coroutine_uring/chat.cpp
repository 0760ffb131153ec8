// The chat job in C++20 coroutines. A member has two: one receives its lines and puts them into the
// queues of the room, the other sends what is in its own queue. After SIGTERM the sending ones have
// a second to finish.
#include "../coroutine/group.hpp"
#include "../coroutine/queue.hpp"
#include "../coroutine/serve.hpp"
#include "../coroutine/signal.hpp"
#include "../coroutine/sleep.hpp"
#include "../wire.hpp"

#include <cstddef>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace same_job::coroutine;
using text = std::shared_ptr<const std::string>; // all members of a room share it

struct member {
    explicit member(std::string_view name) : prefix(std::string{name} + ": ") {}

    std::string prefix; // of its lines
    queue<text> lines{same_job::queue_places};
    group* both = nullptr; // its two coroutines
};

using room = std::vector<member*>;
using rooms = std::map<std::string, room>;

struct server {
    rooms all{};
    cancel_scope stop{}; // of all that receives
};

// No wait, so no member joins or leaves meanwhile, and all queues get the lines in one order.
void tell(const room& members, const member& sender, std::string_view line) {
    std::string all;
    all.reserve(sender.prefix.size() + line.size() + 1);
    all.append(sender.prefix).append(line).append("\n");
    const auto shared = std::make_shared<const std::string>(std::move(all));
    for (member* one : members)
        if (!one->lines.try_push(text{shared}))
            one->both->cancel(); // it does not read
}

// A member is in its room while this object exists. Afterwards it may still take what is queued.
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
    }

    [[nodiscard]] room& members() { return place_->second; }

private:
    rooms& all_;
    rooms::iterator place_;
    member& who_;
};

// The first line, valid until more is received. Empty at the end, and for a line that is too long.
task<std::optional<std::string_view>> first_line(const stream& peer, same_job::line_reader& lines) {
    while (const std::size_t n = co_await peer.recv(lines.room())) {
        lines.received(n);
        const auto line = lines.next();
        if (line || lines.too_long())
            co_return line;
    }
    co_return std::nullopt;
}

task<> send_lines(const stream& peer, member& who, const server& s) {
    std::string batch;
    while (auto line = co_await who.lines.pop()) {
        batch.clear();
        do
            batch += **line;
        while (batch.size() + 2 * same_job::longest_line <= same_job::longest_batch &&
               (line = who.lines.try_pop()));
        co_await peer.send_all(std::as_bytes(std::span{batch}));
    }
    if (s.stop.cancelled())
        co_await peer.send_all(std::as_bytes(std::span{std::string_view{"BYE\n"}}));
    who.both->cancel(); // nothing is left to send
}

// Ends at the end of the stream, at a line that is too long, and when the server stops.
task<> receive_lines(const stream& peer, same_job::line_reader& lines, server& s,
                     std::string_view room_name, member& who) {
    membership place{s.all, room_name, who};
    try {
        for (std::size_t n = 0;; lines.received(n)) {
            while (const auto line = lines.next())
                tell(place.members(), who, *line);
            n = lines.too_long() ? 0 : co_await peer.recv(lines.room());
            if (n == 0)
                co_return;
        }
    } catch (const operation_cancelled&) {
        if (!s.stop.cancelled())
            throw;
    }
}

task<> attend(stream peer, server& s) {
    cancel_scope receiving{co_await this_scope{}};
    const cancel_link stop{s.stop, receiving};
    same_job::line_reader lines;
    const auto first = co_await first_line(peer, lines).in(receiving);
    const auto words = first ? same_job::split(*first) : std::nullopt;
    if (!words || words->second.find(' ') != std::string_view::npos)
        co_return;
    member who{words->second};
    co_await with_group([&](group& both) -> task<> {
        const cancel_link end{both.scope(), receiving};
        who.both = &both;
        both.spawn(send_lines(peer, who, s));
        co_await receive_lines(peer, lines, s, words->first, who).in(receiving);
        co_await sleep_for(same_job::chat_grace);
        both.cancel();
    });
}

task<> accept_members(const listener& from, group& members, server& s) {
    for (;;)
        members.spawn(attend(co_await next_connection(from), s));
}

task<> chat() {
    const termination_signal termination;
    server s;
    co_await with_group(errors::stay_alone, [&](group& members) -> task<> {
        const listener from;
        std::printf("%d\n", from.port());
        std::fflush(stdout);
        co_await with_group([&](group& accepting) -> task<> {
            accepting.spawn(accept_members(from, members, s));
            co_await termination.wait();
            accepting.cancel();
        });
        s.stop.cancel();
    });
}

} // namespace

int main() {
    run(chat());
}
