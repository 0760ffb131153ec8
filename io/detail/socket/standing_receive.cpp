#include <creel/io/detail/socket/standing_receive.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/io/detail/socket/connection.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include <sys/socket.h>

namespace creel::io::detail {

withdrawal standing_receive::receiver::withdraw(waiter& w, wake_reason) noexcept {
    auto& self = static_cast<receiver&>(w);
    if (self.from->receiver_ != &self)
        return withdrawal::pending;
    self.from->receiver_ = nullptr;
    return withdrawal::withdrawn;
}

void standing_receive::receiver::describe(const waiter& w, std::string& text) {
    text += "recv from " + peer_name(static_cast<const receiver&>(w).from->stream_->fd());
}

const waiter_kind standing_receive::receiver::kind{&receiver::withdraw, &receiver::describe, true};

standing_receive::standing_receive(connection& stream) noexcept : stream_(&stream) {
    target_.self = this;
    target_.complete = [](completion_target& t, int result, unsigned flags) noexcept {
        static_cast<target&>(t).self->completed(result, flags);
    };
    target_.prepare = [](sqe_request& r, io_uring_sqe& entry) noexcept {
        auto& request = static_cast<target&>(r);
        const connection& c = *request.self->stream_;
        io_uring_prep_recv_multishot(&entry, c.slot() >= 0 ? c.slot() : c.fd(), nullptr, 0, 0);
        entry.flags =
            static_cast<std::uint8_t>(IOSQE_BUFFER_SELECT | (c.slot() >= 0 ? IOSQE_FIXED_FILE : 0));
        entry.buf_group = receive_buffers::group;
        entry.user_data = ring::tagged(static_cast<completion_target&>(request));
    };
    cancel_.target = ring::tagged(static_cast<completion_target&>(target_));
    cancel_.prepare = &prepare_cancel;
    member_.self = this;
    member_.ring_ends = [](ring_member& m) noexcept {
        standing_receive& self = *static_cast<membership&>(m).self;
        const descriptor_call keep{*self.stream_}; // stop() may let the last one leave
        self.stop(); // what is requested and not submitted yet has no completion
        self.carry_or_lose();
    };
}

standing_receive::~standing_receive() {
    drop_held();
    if (member_.linked())
        member_.unlink();
}

void standing_receive::start(ring& r) noexcept {
    short_ones_ = 0;
    if (!r.receives_may_stand()) {
        allowed_ = false;
        return;
    }
    if (where_ == nullptr) {
        where_ = &r;
        r.join(member_);
    }
    stream_->register_with(r);
    armed_ = true;
    kept_.join(*stream_);
    r.receive_stands(true);
    r.request(target_);
}

void standing_receive::stop() noexcept {
    if (!armed_)
        return;
    if (target_.linked()) {
        ring::retract(target_);
        left_ring();
    } else if (!stopping_) {
        stopping_ = true;
        where_->request(cancel_);
    }
}

void standing_receive::caught_two() const noexcept {
    two_fibers_at_once("receive", stream_->fd());
}

void standing_receive::end() noexcept {
    tell_receiver(-EBADF);
    stop();
    // Or else the kernel would hold the socket open until the next poll, whoever needs the number
    // or waits for the end. A receive that waits in the kernel's poll ends with the call that
    // submits its cancel.
    while (armed_ && current_ring() == where_ && !where_->is_reaping() && !where_->ending())
        where_->wait_briefly();
}

void standing_receive::stop_now() noexcept {
    short_ones_ = 0;
    tell_receiver(receiver::look_again);
    stop();
    while (armed_)
        where_->wait_briefly();
}

void standing_receive::let_go(mail& done) noexcept {
    tell_receiver(receiver::look_again);
    stop();
    letting_go_ = &done;
    if (!armed_)
        left_ring();
}

std::size_t standing_receive::pending() const noexcept {
    std::size_t bytes = carried_bytes_ - carried_taken_bytes_;
    unsigned id = first_;
    for (unsigned i = 0; i < held_; ++i) {
        bytes += where_->buffers().on(id).size_bytes;
        id = where_->buffers().on(id).next;
    }
    return bytes - taken_bytes_;
}

// In the reaper: runs no user code, and must not switch.
void standing_receive::completed(int result, unsigned flags) noexcept {
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        const unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;
        where_->buffers().taken();
        if (result > 0)
            deliver(id, static_cast<std::size_t>(result));
        else
            where_->buffers().give_back(id);
    }
    if ((flags & IORING_CQE_F_MORE) != 0)
        return;
    ring::retract(cancel_);
    stopping_ = false;
    switch (result) {
    case -ECANCELED: // by stop()
    case -ENOBUFS:   // all are out: the next receives do without
    case -EINTR:
        break;
    case -EAGAIN: // a nonblocking descriptor
        allowed_ = false;
        break;
    case -EINVAL: // a kernel older than such receives
    case -EOPNOTSUPP:
        where_->buffers().refuse();
        break;
    default:
        if (result <= 0 && !lost_)
            end_ = result;
    }
    if (held_ > most_held) // a peer that floods: the kernel takes up to 32 messages at a time
        static_cast<void>(carry());
    // The receiver looks again at what is there; if nothing is, it makes a receive of its own.
    if (receiver_ != nullptr && end_ != nothing)
        tell_receiver(take_end());
    else
        tell_receiver(receiver::look_again);
    left_ring();
}

void standing_receive::deliver(unsigned id, std::size_t size_bytes) noexcept {
    receive_buffers& buffers = where_->buffers();
    if (receiver_ != nullptr) { // then nothing is held
        const std::size_t n = std::min(size_bytes, receiver_->buffer.size());
        std::memcpy(receiver_->buffer.data(), buffers.bytes(id), n);
        tell_receiver(static_cast<std::ptrdiff_t>(n));
        if (n == size_bytes)
            buffers.give_back(id);
        else
            hold(id, size_bytes, n);
    } else {
        hold(id, size_bytes, 0);
    }
    if (size_bytes == receive_buffers::buffer_bytes || held_ >= most_held || carried_ != nullptr)
        stop();
}

void standing_receive::tell_receiver(std::ptrdiff_t result) noexcept {
    if (receiver_ == nullptr)
        return;
    receiver& r = *std::exchange(receiver_, nullptr);
    r.result = result;
    wake(r);
}

void standing_receive::hold(unsigned id, std::size_t size_bytes, std::size_t taken_bytes) noexcept {
    receive_buffers& buffers = where_->buffers();
    buffers.on(id).size_bytes = static_cast<unsigned>(size_bytes);
    if (held_ == 0) {
        first_ = id;
        taken_bytes_ = taken_bytes;
    } else {
        buffers.on(last_).next = id;
    }
    last_ = id;
    ++held_;
    if (where_->ending())
        carry_or_lose();
    else if (buffers.out() > receive_buffers::count / 2) // few are left for the other streams
        static_cast<void>(carry());
}

std::size_t standing_receive::take_held(std::span<std::byte> buffer) noexcept {
    std::size_t n = 0;
    if (carried_ != nullptr) {
        n = std::min(buffer.size(), carried_bytes_ - carried_taken_bytes_);
        std::memcpy(buffer.data(), carried_.get() + carried_taken_bytes_, n);
        carried_taken_bytes_ += n;
        if (carried_taken_bytes_ == carried_bytes_) {
            carried_.reset();
            carried_bytes_ = carried_taken_bytes_ = 0;
        }
    }
    while (held_ != 0 && n < buffer.size()) {
        receive_buffers& buffers = where_->buffers();
        const receive_buffers::note& first = buffers.on(first_);
        const std::size_t part = std::min(buffer.size() - n, first.size_bytes - taken_bytes_);
        std::memcpy(buffer.data() + n, buffers.bytes(first_) + taken_bytes_, part);
        n += part;
        taken_bytes_ += part;
        if (taken_bytes_ != first.size_bytes)
            break;
        const unsigned next = first.next;
        buffers.give_back(first_);
        first_ = next;
        taken_bytes_ = 0;
        --held_;
    }
    if (held_ == 0 && !armed_)
        left_ring();
    return n;
}

// Takes what is held out of the ring's buffers. False: there is no memory, and it stays there.
bool standing_receive::carry() noexcept {
    if (held_ == 0)
        return true;
    const std::size_t bytes = pending();
    std::unique_ptr<std::byte[]> all{new (std::nothrow) std::byte[bytes]};
    if (all == nullptr)
        return false;
    take_held({all.get(), bytes});
    carried_ = std::move(all);
    carried_bytes_ = bytes;
    carried_taken_bytes_ = 0;
    return true;
}

// The same where the buffers end with the ring, though the stream may go on.
void standing_receive::carry_or_lose() noexcept {
    if (carry())
        return;
    drop_held();
    lost_ = true; // and nothing that came behind the gap is to be taken for what was lost
    end_ = -ENOMEM;
    ::shutdown(stream_->fd(), SHUT_RDWR);
}

void standing_receive::drop_held() noexcept {
    for (; held_ != 0; --held_) {
        const unsigned next = where_->buffers().on(first_).next;
        where_->buffers().give_back(first_);
        first_ = next;
    }
    taken_bytes_ = 0;
    carried_.reset();
    carried_bytes_ = carried_taken_bytes_ = 0;
}

// After the last completion, or when the last buffer has gone back.
void standing_receive::left_ring() noexcept {
    const bool was_armed = std::exchange(armed_, false);
    if (was_armed)
        where_->receive_stands(false);
    mail* const done = std::exchange(letting_go_, nullptr);
    if (done != nullptr || where_ == nullptr || where_->ending())
        carry_or_lose();
    if (held_ == 0 && where_ != nullptr) {
        if (member_.linked())
            member_.unlink();
        where_ = nullptr;
    }
    if (was_armed)
        kept_.leave(); // may destroy this: the last to leave a stream that closes
    if (done != nullptr) {
        stream_->unregister();
        done->deliver(*done);
    }
}

} // namespace creel::io::detail
