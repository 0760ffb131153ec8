#pragma once

// The site of the crawler job's check, and what is wrong with its pages.

#include <creel/creel.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace creel::bench::same_job::crawler {

// What the site does with a request instead of a response.
enum class fault : unsigned char {
    unavailable,  // status 503
    close_before, // an end of file
    close_within, // in the middle of the page
    reset_before,
    reset_within,
    silent,    // nothing for longer than the program waits
    trickling, // the page, so slowly that all of it takes longer
    malformed, // a head that is none
};

struct page {
    unsigned status = 200;
    std::string body{};
    bool is_empty = false;       // it has no body
    std::vector<fault> faults{}; // of its first requests
    bool fails = false;          // each further request has the last of these faults, too
    std::size_t piece_bytes = 0; // sent in one call; 0: all
    bool closes_after = false;   // the connection, after the page

    // What has happened:
    std::size_t requests = 0;
    // Its first try may have been lost on a connection that the site had closed. The site does not
    // see such a try, and leaves out one of four faults, so that the page does not fail.
    bool may_have_lost_try = false;
    std::size_t left_out = 0;
    bool done = false;              // the program has got the page, or must give up
    clock::time_point not_before{}; // for the next request
};

using page_table = std::unordered_map<std::uint64_t, page>;

// A site that the program crawls once.
class site {
public:
    site(page_table pages, unsigned tasks, unsigned rate)
        : pages_(std::move(pages)), tasks_(tasks), rate_(rate) {}

    void serve(io::tcp_stream& peer);

    // Holds back all responses but that of page 0, until each worker waits for one.
    void hold_until_all_wait();
    void hold_nothing() { all_may_go_.set(); }

    // Throws if the program has not kept to its job.
    void compare(const std::string& line, clock::time_point started) const;

private:
    [[noreturn]] void throw_too_few_wait() const;
    // False if the connection ends here. `fresh`: this is its first request.
    bool answer(io::tcp_stream& peer, std::uint64_t number, bool fresh);
    void note_request(std::uint64_t number, page& one, bool fresh, clock::time_point now);
    void wait_in_line(std::uint64_t number);
    bool deliver(io::tcp_stream& peer, page& one);
    bool fail(io::tcp_stream& peer, std::uint64_t number, page& one, fault what,
              clock::time_point asked);
    void check_rate(clock::time_point started) const;
    [[noreturn]] void throw_too_fast(std::size_t count, duration stretch) const;

    page_table pages_;
    unsigned tasks_;
    unsigned rate_;
    unsigned waiting_ = 0; // requests that are not answered yet
    sync::event all_wait_{};
    sync::event all_may_go_{};
    std::vector<clock::time_point> requests_{}; // when they came
    std::size_t connections_ = 0;
    std::size_t closes_ = 0;            // of kept connections, after a page
    std::size_t ended_connections_ = 0; // that have ended, or that the program may have given up
};

} // namespace creel::bench::same_job::crawler
