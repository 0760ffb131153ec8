#pragma once

// What the sites of the crawler job have in common.

#include <creel/creel.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace creel::bench::same_job::crawler {

// The arguments of a program that crawls the site of the listener.
std::vector<std::string> arguments(const io::tcp_listener& listener, unsigned tasks, unsigned rate);

// Accepts until it is cancelled. Each connection runs serve(peer) as a child of the nursery.
void accept_all(nursery& connections, io::tcp_listener& listener,
                const std::function<void(io::tcp_stream&)>& serve);

// The page that the next request asks for. Empty at the end of the connection.
std::optional<std::uint64_t> next_request(io::tcp_stream& peer);

} // namespace creel::bench::same_job::crawler
