#include <creel/io/detail/socket/standing_receive.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/io/detail/socket/connection.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
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
        request.self->submitted();
    };
    cancel_.target = ring::tagged(static_cast<completion_target&>(target_));
    cancel_.prepare = &prepare_cancel;
    member_.self = this;
    member_.ring_ends = [](ring_member& m) noexcept {
        standing_receive& self = *static_cast<membership&>(m).self;
        const descriptor_call keep{*self.stream_}; // stop() may let the last member leave
        self.stop();                               // a request without an entry gets no completion
        self.carry_or_lose();
        if (!self.is_with_ring())
            self.leave_ring();
    };
}

standing_receive::~standing_receive() {
    if (member_.linked())
        member_.unlink();
}

// For a recv that finds nothing here. True: something will come, or an end.
bool standing_receive::begin(ring& r) noexcept {
    if (state_ == state::wanted && r.receives_may_stand())
        request(r);
    else if (state_ == state::wanted)
        refuse();
    else if (takes_next_recv()) // else another recv of the program was quicker, and has ended it
        forget();
    return is_with_ring();
}

void standing_receive::stop() noexcept {
    if (state_ == state::requested)
        take_back();
    else if (state_ == state::standing)
        cancel();
}

void standing_receive::caught_two() const noexcept {
    two_fibers_at_once("receive", stream_->fd());
}

void standing_receive::end() noexcept {
    tell_receiver(-EBADF);
    stop();
    // Without this wait the kernel would hold the socket open until the next poll, while the peer
    // waits for its end, or other code for the number. A receive that waits in the kernel's poll
    // ends with the system call that submits its cancel.
    while (is_with_ring() && current_ring() == where_ && !where_->is_reaping() && !where_->ending())
        where_->wait_briefly();
}

void standing_receive::stop_now() noexcept {
    short_ones_ = 0;
    tell_receiver({});
    if (state_ == state::wanted)
        forget();
    stop();
    while (is_with_ring())
        where_->wait_briefly();
}

void standing_receive::let_go(inbox_node& done) noexcept {
    tell_receiver({});
    stop();
    if (is_with_ring()) {
        letting_go_ = &done;
        return;
    }
    carry_or_lose();
    leave_ring();
    stream_->unregister();
    done.deliver(done);
}

// 1
void standing_receive::want() noexcept {
    CREEL_ASSERT(state_ == state::single, "a standing receive is wanted twice");
    state_ = state::wanted;
}

// 2
void standing_receive::request(ring& r) noexcept {
    CREEL_ASSERT(state_ == state::wanted, "a receive that is not wanted is requested");
    state_ = state::requested;
    short_ones_ = 0;
    if (where_ == nullptr) {
        where_ = &r;
        r.join(member_);
    }
    stream_->register_with(r);
    kept_.join(*stream_);
    r.receive_stands(true);
    r.request(target_);
}

// 3
void standing_receive::refuse() noexcept {
    CREEL_ASSERT(state_ == state::wanted, "a receive that is not wanted is refused");
    state_ = state::refused;
    short_ones_ = 0;
}

// 4
void standing_receive::submitted() noexcept {
    CREEL_ASSERT(state_ == state::requested, "a receive gets an entry that is not requested");
    state_ = state::standing;
    cancel_.number = where_->number_receive();
}

// 5
void standing_receive::take_back() noexcept {
    CREEL_ASSERT(state_ == state::requested, "a receive that has an entry is taken back");
    ring::retract(target_);
    leave_kernel(state::ended);
}

// 6
void standing_receive::cancel() noexcept {
    CREEL_ASSERT(state_ == state::standing, "a receive that does not stand is cancelled");
    state_ = state::stopping;
    where_->request(cancel_);
}

// 7 and 8
void standing_receive::last_completion(bool for_good) noexcept {
    CREEL_ASSERT(state_ == state::standing || state_ == state::stopping,
                 "a receive completes that has no entry");
    ring::retract(cancel_);
    leave_kernel(for_good ? state::ended_for_good : state::ended);
}

// 9
void standing_receive::forget() noexcept {
    CREEL_ASSERT(state_ == state::wanted || state_ == state::ended ||
                     state_ == state::ended_for_good,
                 "a receive is forgotten that is with its ring, or not there");
    state_ = state_ == state::ended_for_good ? state::refused : state::single;
}

// What 5, 7 and 8 have in common. May destroy this.
void standing_receive::leave_kernel(state next) noexcept {
    state_ = next;
    where_->receive_stands(false);
    inbox_node* const done = std::exchange(letting_go_, nullptr);
    if (done != nullptr || where_->ending())
        carry_or_lose();
    leave_ring();
    connection& stream = *stream_;
    kept_.leave(); // destroys a stream that closes, if this is the last member; then done is null
    if (done != nullptr) {
        stream.unregister();
        done->deliver(*done);
    }
}

// Within reap(): runs no user code, and must not switch.
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
    note_end(result);
    if (held_.buffers() >
        most_held) // a peer that floods: the kernel takes up to 32 messages at a time
        static_cast<void>(held_.to_heap());
    // A receiver that is told nothing looks again at what is here, or makes a single receive.
    if (receiver_ != nullptr && end_.exists())
        tell_receiver(end_.take());
    else
        tell_receiver({});
    last_completion(result == -EAGAIN); // a nonblocking descriptor
}

void standing_receive::note_end(int result) noexcept {
    switch (result) {
    case -ECANCELED: // by stop()
    case -ENOBUFS:   // all buffers are out: the next receives are single
    case -EINTR:
    case -EAGAIN:
        break;
    case -EINVAL: // a kernel older than such receives
    case -EOPNOTSUPP:
        where_->buffers().refuse();
        break;
    default:
        if (result <= 0)
            end_.set(result);
    }
}

void standing_receive::deliver(unsigned id, std::size_t size_bytes) noexcept {
    receive_buffers& pool = where_->buffers();
    if (receiver_ != nullptr) { // then nothing is held
        const std::size_t n = std::min(size_bytes, receiver_->buffer.size());
        std::memcpy(receiver_->buffer.data(), pool.bytes(id), n);
        tell_receiver(static_cast<std::ptrdiff_t>(n));
        if (n == size_bytes)
            pool.give_back(id);
        else
            hold(id, size_bytes, n);
    } else {
        hold(id, size_bytes, 0);
    }
    if (size_bytes == receive_buffers::buffer_bytes || held_.buffers() >= most_held ||
        held_.on_heap())
        stop();
}

void standing_receive::tell_receiver(std::optional<std::ptrdiff_t> result) noexcept {
    if (receiver_ == nullptr)
        return;
    receiver& r = *std::exchange(receiver_, nullptr);
    r.result = result;
    wake(r);
}

// While it is stopping it keeps its buffers. Until its cancel is submitted, the kernel may take
// buffer after buffer for a peer that never pauses. Then it ends when it finds none (ENOBUFS); so
// do those of other streams, which make single receives for a while. Copied to the heap, the
// messages would fill memory.
void standing_receive::hold(unsigned id, std::size_t size_bytes, std::size_t taken_bytes) noexcept {
    receive_buffers& pool = where_->buffers();
    held_.add(pool, id, size_bytes, taken_bytes);
    if (where_->ending())
        carry_or_lose();
    else if (pool.out() > receive_buffers::count / 2 && state_ != state::stopping)
        static_cast<void>(held_.to_heap()); // few are left for the other streams
}

std::ptrdiff_t standing_receive::take_held(std::span<std::byte> buffer) noexcept {
    const auto n = static_cast<std::ptrdiff_t>(held_.take(buffer));
    if (!is_with_ring())
        leave_ring();
    return n;
}

// The buffers end with the ring, and the stream may go on without it.
void standing_receive::carry_or_lose() noexcept {
    if (held_.to_heap())
        return;
    held_.drop();
    // For good: bytes that come behind the gap must not be taken for those that were lost.
    end_.set_for_good(-ENOMEM);
    ::shutdown(stream_->fd(), SHUT_RDWR);
}

// If it holds no buffer of the ring. Not while this is with the ring.
void standing_receive::leave_ring() noexcept {
    if (where_ == nullptr || held_.buffers() != 0)
        return;
    if (member_.linked())
        member_.unlink();
    where_ = nullptr;
}

} // namespace creel::io::detail
