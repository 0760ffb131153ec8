#pragma once

// The clients of the chat job, as its check plays them.

#include "../expect.hpp"
#include "../peer.hpp"

#include <creel/creel.hpp>

#include <memory>
#include <system_error>
#include <vector>

namespace creel::bench::same_job::chat {

using log = std::vector<std::string>; // lines, in the order in which a member heard them

// A connection, of a member or of a client that is none.
class client {
public:
    client(std::uint16_t port, std::string_view first, const io::stream_options& options = {})
        : peer_(connect(port, options)) {
        send(first);
    }

    void send(std::string_view text) { same_job::send(peer_, text); }

    // Valid until the next call. Empty at the end, also if the connection was reset.
    std::optional<std::string_view> hear() {
        try {
            const auto line = next_line(peer_, lines_);
            require(line || !lines_.too_long(), "a member got a line that is too long");
            return line;
        } catch (const std::system_error&) {
            broken_ = true;
            return {};
        }
    }
    // The program must end the connection, and send nothing before.
    void hear_end() { require(!hear(), "a client got a line that it should not get"); }
    // The same, and all that came were whole lines and an end of file.
    void hear_clean_end() {
        hear_end();
        require(!broken_ && lines_.pending() == 0, "a connection did not end after a whole line");
    }

    void end_of_sending() { peer_.shutdown_send(); }
    void reset() {
        peer_.set_linger(0s);
        peer_.close();
    }

private:
    io::tcp_stream peer_;
    basic_line_reader<4 * longest_line> lines_{}; // a name and a text may each fill a line
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

    std::string hear_line() {
        const auto line = hear();
        require(line.has_value(), "a member's connection ended");
        return std::string{*line};
    }
    // Hears lines until its own one comes, which is the last one in the result.
    log hear_until(std::string_view text) {
        const auto wanted = line_of(text);
        log all;
        while (all.empty() || all.back() != wanted)
            all.push_back(hear_line());
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
inline members join(std::uint16_t port, const std::string& room,
                    const std::vector<std::string>& names) {
    members all;
    for (const auto& name : names) {
        all.push_back(std::make_unique<member>(port, room, name));
        all.back()->say("here");
        for (const auto& one : all)
            require(one->hear() == name + ": here", "a member did not hear another one join");
    }
    return all;
}

} // namespace creel::bench::same_job::chat
