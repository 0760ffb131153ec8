// One client of the inspect socket. It sends a request and takes the answer in its own time, but
// not for ever: a client that sends nothing, or takes nothing, is closed.
//
//   asking ----- 1 go_on(): the request is whole ------> answered
//   answered --- 2 go_on(): it has taken everything ---> over
//   asking, answered -- 3 its end, an error, no progress for `patience` --> over
#pragma once

#include <creel/fibers/time.hpp>

#include <chrono>
#include <cstddef>
#include <string>

namespace creel::io::detail {

// Threads: one at a time. It closes its descriptor.
class inspect_client {
public:
    static constexpr duration patience = std::chrono::seconds{5};
    static constexpr duration whole_patience = std::chrono::seconds{60};

    explicit inspect_client(int descriptor) noexcept
        : descriptor_(descriptor), began_(clock::now()), last_progress_(began_) {}
    inspect_client(const inspect_client&) = delete;
    inspect_client& operator=(const inspect_client&) = delete;
    ~inspect_client();

    // Reads, answers and writes as much as goes without a wait; making the answer may take a while.
    // Throws: std::bad_alloc.
    void go_on();
    void give_up() noexcept { is_over_ = true; }

    [[nodiscard]] bool is_over() const noexcept { return is_over_ || clock::now() >= ends_at(); }
    [[nodiscard]] time_point ends_at() const noexcept;
    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    [[nodiscard]] bool is_asking() const noexcept { return answer_.empty(); }

private:
    void read_request();
    void write_answer();
    void end_well() noexcept;

    const int descriptor_;
    const time_point began_;
    time_point last_progress_;
    std::string received_{};
    std::string answer_{}; // empty: it is asking
    std::size_t written_bytes_ = 0;
    bool is_over_ = false;
};

} // namespace creel::io::detail
