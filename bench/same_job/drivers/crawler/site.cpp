#include "site.hpp"

#include "../expect.hpp"
#include "../peer.hpp"
#include "server.hpp"

#include <array>
#include <optional>

namespace creel::bench::same_job::crawler {
namespace {

// How long the program waits for a page that does not come. That is 1 s, but on a busy machine the
// site sees the request late, and so does the program the end of its wait.
constexpr auto shortest_patience = 500ms;
constexpr auto longest_patience = 3s;

std::string response(unsigned status, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(status) + " Some Reason\r\nServer: bench\r\n" +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string malformed_head(std::uint64_t number) {
    const std::array<std::string, 6> heads{
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n/1\n",
        "HTTP/1.1 200 OK\r\nServer: bench\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n/1\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n/1\n", // a page that is too long
        "HTTP/1.1 XYZ OK\r\nContent-Length: 3\r\n\r\n/1\n",
        "HTTP/1.1 200 OK\r\nServer: " + std::string(2 * longest_line, 'x'),
    };
    return heads[number % heads.size()];
}

[[noreturn]] void throw_still_waits(std::uint64_t number) {
    throw std::runtime_error("the program still waits for page " + std::to_string(number));
}

// Ends when the program closes the connection.
[[noreturn]] void trickle(io::tcp_stream& peer, std::uint64_t number, const page& one) {
    const auto text = response(one.status, one.body);
    const auto end = clock::now() + longest_patience;
    for (std::size_t sent = 0; clock::now() < end; ++sent) {
        send(peer, std::string_view{text}.substr(sent, 1));
        this_fiber::sleep_for(100ms);
    }
    throw_still_waits(number);
}

void expect_end(io::tcp_stream& peer, std::uint64_t number) {
    std::array<std::byte, 1> more{};
    const auto received = move_on_after(longest_patience, [&] { return peer.recv(more); });
    if (!received)
        throw_still_waits(number);
    if (*received != 0)
        throw std::runtime_error("the program used a connection again on which page " +
                                 std::to_string(number) + " had failed");
}

void check_requests(std::uint64_t number, const page& one) {
    std::size_t most = one.faults.size() + 1 - one.left_out;
    std::size_t least = most;
    if (one.fails) {
        most = fetch_tries;
        least = most - (one.may_have_lost_try ? 1 : 0);
        if (one.faults.back() == fault::malformed) // the job does not say if it is tried again
            least = 1;
    }
    if (one.requests < least || one.requests > most)
        throw std::runtime_error("the program asked " + std::to_string(one.requests) +
                                 " times for page " + std::to_string(number) + " and not " +
                                 std::to_string(most) + " times");
}

} // namespace

void site::serve(io::tcp_stream& peer) {
    ++connections_;
    bool fresh = true;
    while (const auto number = next_request(peer)) {
        if (!answer(peer, *number, fresh))
            return;
        fresh = false;
    }
}

void site::hold_until_all_wait() {
    move_on_after(at_once, [&] { all_wait_.wait(); });
    if (waiting_ < tasks_)
        throw_too_few_wait();
    this_fiber::sleep_for(20ms); // would one too many ask?
    all_may_go_.set();
}

void site::compare(const std::string& line, clock::time_point started) const {
    std::uint64_t fetched = 0;
    std::uint64_t failed = 0;
    std::uint64_t bytes = 0;
    for (const auto& [number, one] : pages_) {
        check_requests(number, one);
        if (one.fails || one.status != 200) {
            ++failed;
        } else {
            ++fetched;
            bytes += one.body.size();
        }
    }
    const auto right =
        std::to_string(fetched) + ' ' + std::to_string(failed) + ' ' + std::to_string(bytes);
    require(line == right, "the program printed '" + line + "' instead of '" + right + "'");
    check_rate(started);
    if (connections_ > tasks_ + ended_connections_)
        throw std::runtime_error("the program opened " + std::to_string(connections_) +
                                 " connections, but " + std::to_string(tasks_) +
                                 " workers have lost at most " +
                                 std::to_string(ended_connections_));
}

void site::throw_too_few_wait() const {
    throw std::runtime_error("only " + std::to_string(waiting_) + " of " + std::to_string(tasks_) +
                             " workers asked at the same time");
}

bool site::answer(io::tcp_stream& peer, std::uint64_t number, bool fresh) {
    const auto found = pages_.find(number);
    if (found == pages_.end())
        throw std::runtime_error("the program asked for page " + std::to_string(number) +
                                 ", and no page links to it");
    page& one = found->second;
    const auto asked = clock::now();
    note_request(number, one, fresh, asked);
    wait_in_line(number);
    const std::size_t index = one.requests - 1 + one.left_out;
    if (index < one.faults.size())
        return fail(peer, number, one, one.faults[index], asked);
    if (one.fails)
        return fail(peer, number, one, one.faults.back(), asked);
    return deliver(peer, one);
}

void site::note_request(std::uint64_t number, page& one, bool fresh, clock::time_point now) {
    requests_.push_back(now);
    if (one.done)
        throw std::runtime_error("the program asked again for page " + std::to_string(number));
    if (one.requests != 0 && !all_may_go_.is_set())
        throw_too_few_wait(); // the program gave up a page that is held back
    if (one.requests == 0) {
        one.may_have_lost_try = fresh && closes_ != 0;
        one.left_out = one.may_have_lost_try && one.faults.size() == fetch_tries - 1 ? 1 : 0;
    } else if (now < one.not_before)
        throw std::runtime_error("the program began try " + std::to_string(one.requests + 1) +
                                 " of page " + std::to_string(number) + " too early");
    if (++one.requests == fetch_tries && one.fails)
        one.done = true;
}

void site::wait_in_line(std::uint64_t number) {
    if (++waiting_ > tasks_)
        throw std::runtime_error("more than " + std::to_string(tasks_) + " workers ask");
    if (number != 0) {
        if (waiting_ == tasks_)
            all_wait_.set();
        all_may_go_.wait();
    }
    --waiting_;
}

bool site::deliver(io::tcp_stream& peer, page& one) {
    one.done = true;
    const auto text = response(one.status, one.body);
    const bool closes = one.closes_after;
    if (closes || one.status != 200)
        ++ended_connections_;
    if (closes) {
        ++closes_;
        peer.set_linger(std::nullopt);
    }
    const std::size_t piece = one.piece_bytes == 0 ? text.size() : one.piece_bytes;
    for (std::size_t sent = 0; sent < text.size(); sent += piece) {
        if (sent != 0)
            this_fiber::sleep_for(500us);
        send(peer, std::string_view{text}.substr(sent, piece));
    }
    return !closes;
}

bool site::fail(io::tcp_stream& peer, std::uint64_t number, page& one, fault what,
                clock::time_point asked) {
    ++ended_connections_;
    const auto pause = first_backoff * (1U << (one.requests - 1));
    one.not_before = clock::now() + pause;
    const auto half = [&] {
        const auto text = response(one.status, one.body);
        send(peer, std::string_view{text}.substr(0, text.size() - one.body.size() / 2 - 1));
    };
    switch (what) {
    case fault::unavailable:
        send(peer, response(503, "/7\nbusy\n"));
        return true;
    case fault::close_before:
        peer.set_linger(std::nullopt);
        return false;
    case fault::close_within:
        peer.set_linger(std::nullopt);
        half();
        return false;
    case fault::reset_before:
        return false;
    case fault::reset_within:
        half();
        this_fiber::sleep_for(1ms);
        return false;
    case fault::silent:
        one.not_before = asked + shortest_patience + pause;
        break;
    case fault::trickling:
        one.not_before = asked + shortest_patience + pause;
        trickle(peer, number, one);
    case fault::malformed:
        send(peer, malformed_head(number));
        break;
    }
    expect_end(peer, number);
    return false;
}

// Each worker may have begun one request before the first of a stretch came, which comes later.
void site::check_rate(clock::time_point started) const {
    const auto allowed = [&](clock::duration stretch) {
        return std::chrono::duration<double>(stretch).count() * rate_ + rate_burst;
    };
    for (std::size_t end = 0; end < requests_.size(); ++end) {
        if (static_cast<double>(end + 1) > allowed(requests_[end] - started))
            throw_too_fast(end + 1, requests_[end] - started);
        for (std::size_t begin = 0; begin < end; ++begin)
            if (static_cast<double>(end - begin) >
                allowed(requests_[end] - requests_[begin]) + tasks_)
                throw_too_fast(end - begin, requests_[end] - requests_[begin]);
    }
}

void site::throw_too_fast(std::size_t count, clock::duration stretch) const {
    throw std::runtime_error("the program began " + std::to_string(count) + " requests in " +
                             milliseconds(stretch) + ", at a rate of " + std::to_string(rate_) +
                             " a second");
}

} // namespace creel::bench::same_job::crawler
