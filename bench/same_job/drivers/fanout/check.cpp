// The check of the fanout job. It plays the clients and the three backends.

#include "../job.hpp"
#include "../program.hpp"
#include "backend.hpp"
#include "client.hpp"

#include <algorithm>
#include <random>
#include <system_error>

namespace creel::bench::same_job::fanout {
namespace {

constexpr auto quickest_late_reply = 70ms; // the quickest of many that wait for the deadline

// The parts of the check, with the program and the backends that they share.
class examination {
public:
    examination(program& server, all_backends& all, nursery& connections)
        : server_(server), all_(all), connections_(connections) {
        quickest_.fill(clock::duration::max());
        for (auto& one : all_)
            one.accept_into(connections_);
    }

    void run() {
        within(patience, "its start", [&] { port_ = server_.read_port(); });
        within(patience, "a first request", [&] { first_request(); });
        within(patience, "many clients, some of which break off", [&] { mixed_load(); });
        within(patience, "three slow backends", [&] { slow_backends(); });
        within(patience, "a backend that refuses connections", [&] { refused_connections(); });
        within(patience, "a backend that does not accept", [&] { waiting_connections(); });
        within(patience, "requests after all that", [&] { kept_connections(); });
        within(patience, "the close of all its connections", [&] {
            while (server_.descriptors() > own_descriptors_ ||
                   std::ranges::any_of(all_, [](auto& one) { return one.open_connections() != 0; }))
                this_fiber::sleep_for(5ms);
        });
    }

private:
    std::uint64_t next_id(const actions& each) { return make_id(++serial_, each); }

    // Finds out how many descriptors the program has without a client: after a whole reply it has
    // these and the connections of this client.
    void first_request() {
        client only{port_};
        while (!only.ask(next_id(all_answer)).whole) {
        }
        own_descriptors_ = server_.descriptors() - 1 - static_cast<std::ptrdiff_t>(backends);
    }

    void mixed_load() {
        with_nursery([&](nursery& n) {
            for (unsigned seed = 1; seed <= 40; ++seed)
                n.spawn([this, seed] {
                    client own{port_};
                    own.ask(next_id({action::silent, action::answer, action::answer}));
                    ask_at_random(own, seed);
                });
            for (int i = 0; i < 4; ++i)
                for (const auto misbehave :
                     {&examination::reset_within_request, &examination::break_while_waiting,
                      &examination::half_close, &examination::send_too_long_line,
                      &examination::send_garbage, &examination::ask_in_pieces})
                    n.spawn([this, misbehave] { (this->*misbehave)(); });
        });
        for (std::size_t i = 0; i < quickest_.size(); ++i)
            check_quickest(static_cast<action>(i));
    }

    // On a busy machine all replies to a rare action may have come late, so it gets some more.
    void check_quickest(action what) {
        const auto most = waits(what) ? quickest_late_reply : fanout_deadline;
        const auto& quickest = quickest_[index_of(what)];
        client own{port_};
        for (int i = 0; quickest > most && i < 20; ++i) {
            const actions each{action::answer, what, action::answer};
            note(each, own.ask(next_id(each)));
        }
        if (quickest > most)
            throw std::runtime_error("after " + std::string{action_names[index_of(what)]} +
                                     " of a backend the quickest reply took " +
                                     milliseconds(quickest));
    }

    // The quickest reply after each action tells that the program does not wait in vain.
    void note(const actions& each, const reply& came) {
        const bool waited = std::ranges::any_of(each, waits);
        for (const action what : each)
            if (came.whole && waits(what) == waited)
                quickest_[index_of(what)] = std::min(quickest_[index_of(what)], came.took);
    }

    void ask_at_random(client& own, unsigned seed) {
        std::minstd_rand random{seed};
        for (int i = 0; i < 24; ++i) {
            actions each = all_answer;
            for (action& what : each)
                if (random() / 16 % 10 < 3)
                    what = static_cast<action>(random() / 16 % action_names.size());
            note(each, own.ask(next_id(each)));
        }
    }

    void reset_within_request() {
        client own{port_};
        send(own.peer(), "12");
        this_fiber::sleep_for(5ms);
    }

    void break_while_waiting() {
        client resets{port_};
        client closes{port_};
        closes.peer().set_linger(std::nullopt);
        for (client* const own : {&resets, &closes})
            own->send_request(next_id({action::answer, action::silent, action::late}));
        this_fiber::sleep_for(10ms);
    }

    void half_close() {
        for (const action last : {action::answer, action::silent}) {
            client own{port_};
            const auto id = next_id({action::answer, action::answer, last});
            own.send_request(id);
            own.peer().shutdown_send();
            own.receive_reply(id);
            drain(own.peer());
        }
    }

    void send_too_long_line() {
        client own{port_};
        send(own.peer(), std::string(2 * longest_line, '1'));
        drain(own.peer());
    }

    // The job does not say what becomes of such a client. But the backends see no garbage.
    void send_garbage() {
        for (const std::string_view line : {"hello\n", "\n", "-1\n", "12 34\n", "\xff\x01\n"}) {
            client own{port_};
            send(own.peer(), line);
            own.peer().shutdown_send();
            drain(own.peer());
        }
    }

    void ask_in_pieces() {
        client own{port_};
        const auto id = next_id(all_answer);
        own.send_request_in_pieces(id);
        own.receive_reply(id);
        own.ask(next_id(all_answer));
    }

    // Receives until the program has closed the connection.
    static void drain(io::tcp_stream& peer) {
        try {
            std::array<std::byte, longest_line> bytes;
            while (peer.recv(bytes) != 0) {
            }
        } catch (const std::system_error&) { // a reset is an end, too
        }
    }

    // One after the other they would take 60 ms. On a busy machine even 20 ms may take long, so one
    // whole reply is enough.
    void slow_backends() {
        client own{port_};
        for (int i = 0; i < 10; ++i)
            if (own.ask(next_id({action::slow, action::slow, action::slow})).whole)
                return;
        throw std::runtime_error("each of them took 20 ms, and yet no reply had all values");
    }

    void refused_connections() {
        all_[1].refuse();
        client own{port_};
        auto quickest = clock::duration::max();
        for (int i = 0; quickest > fanout_deadline && i < 20; ++i)
            quickest = std::min(quickest, own.ask(next_id(all_answer), 0b010).took);
        if (quickest > fanout_deadline)
            throw std::runtime_error("the quickest reply took " + milliseconds(quickest));
        all_[1].listen();
        all_[1].accept_into(connections_);
        own.ask(next_id(all_answer));
    }

    void waiting_connections() {
        all_[2].refuse();
        all_[2].listen(0);
        client own{port_};
        {
            const auto filler = connect(all_[2].port());
            for (int i = 0; i < 2; ++i)
                own.ask(next_id(all_answer), 0b100);
        }
        all_[2].refuse();
        all_[2].listen();
        all_[2].accept_into(connections_);
        own.ask(next_id(all_answer));
    }

    // Each client has one connection to each backend, from its first request to its end.
    void kept_connections() {
        constexpr std::uint64_t clients = 16;
        std::array<std::uint64_t, backends> before{};
        for (std::size_t i = 0; i < backends; ++i)
            before[i] = all_[i].accepted();
        std::uint64_t late = 0; // a connection is closed after a late answer
        const client idle{port_};
        with_nursery([&](nursery& n) {
            for (std::uint64_t i = 0; i < clients; ++i)
                n.spawn([&] {
                    client own{port_};
                    for (int k = 0; k < 10; ++k)
                        late += own.ask(next_id(all_answer)).whole ? 0 : 1;
                });
        });
        for (std::size_t i = 0; i < backends; ++i)
            if (const auto count = all_[i].accepted() - before[i];
                count < clients || count > clients + late)
                throw std::runtime_error("16 clients made 10 requests each, over " +
                                         std::to_string(count) + " connections to a backend");
    }

    program& server_;
    all_backends& all_;
    nursery& connections_;
    std::uint16_t port_ = 0;
    std::ptrdiff_t own_descriptors_ = 0;
    std::uint64_t serial_ = 0;
    std::array<clock::duration, action_names.size()> quickest_{};
};

} // namespace

void check(const std::string& path) {
    io::run([&] {
        auto all = listening_backends();
        program server{path, {.arguments = ports_of(all)}};
        with_nursery([&](nursery& connections) {
            examination{server, all, connections}.run();
            connections.cancel();
        });
    });
}

} // namespace creel::bench::same_job::fanout
