#include <creel/io/detail/inspect/inspect_client.hpp>

#include <creel/io/detail/inspect/inspect_request.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>

#include <sys/socket.h>
#include <unistd.h>

namespace creel::io::detail {

namespace {

bool would_wait() noexcept {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

} // namespace

inspect_client::~inspect_client() {
    // A forked child may have a copy of the descriptor, which close() alone would leave connected.
    ::shutdown(descriptor_, SHUT_RDWR);
    ::close(descriptor_);
}

time_point inspect_client::ends_at() const noexcept {
    return std::min(last_progress_ + patience, began_ + (is_asking() ? patience : whole_patience));
}

void inspect_client::go_on() {
    if (is_asking())
        read_request();
    if (!is_asking() && !is_over_)
        write_answer();
}

void inspect_client::read_request() {
    std::array<char, 1024> piece{};
    while (is_asking()) {
        const ssize_t got = ::recv(descriptor_, piece.data(), piece.size(), 0);
        if (got < 0 && would_wait())
            return;
        if (got <= 0) {
            is_over_ = true;
            return;
        }
        received_.append(piece.data(), static_cast<std::size_t>(got));
        if (const std::optional<std::string_view> line = whole_request(received_);
            line && line->size() <= longest_request)
            answer_ = answer_request(*line);
        else if (received_.size() > longest_request)
            answer_ = answer_too_long();
    }
    last_progress_ = clock::now(); // the answer may have taken long
}

void inspect_client::write_answer() {
    while (written_bytes_ < answer_.size()) {
        const ssize_t took = ::send(descriptor_, answer_.data() + written_bytes_,
                                    answer_.size() - written_bytes_, MSG_NOSIGNAL);
        if (took < 0 && would_wait())
            return;
        if (took <= 0) {
            is_over_ = true;
            return;
        }
        written_bytes_ += static_cast<std::size_t>(took);
        last_progress_ = clock::now();
    }
    end_well();
}

// If bytes of the client were left unread, the kernel would tell it of a reset.
void inspect_client::end_well() noexcept {
    ::shutdown(descriptor_, SHUT_WR);
    std::array<char, 1024> rest{};
    for (int i = 0; i < 64 && ::recv(descriptor_, rest.data(), rest.size(), 0) > 0; ++i) {
    }
    is_over_ = true;
}

} // namespace creel::io::detail
