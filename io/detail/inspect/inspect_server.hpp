// Serves the inspect socket of the process: see run_options::inspect.
#pragma once

#include <string>

namespace creel::io::detail {

struct inspecting;

// While at least one with an address exists, the process listens there and has a thread for it,
// "creel-inspect". In a forked child it does nothing.
class inspect_server {
public:
    // Threads: any. Throws: std::system_error: see inspect_socket; std::bad_alloc.
    explicit inspect_server(const std::string& address);
    // The last one of an address ends its thread; answers that clients have not taken are lost.
    // Parks: it blocks the thread meanwhile, also for an answer that is being made. Threads: any.
    ~inspect_server();
    inspect_server(const inspect_server&) = delete;
    inspect_server& operator=(const inspect_server&) = delete;

private:
    inspecting* const serving_;
};

} // namespace creel::io::detail
