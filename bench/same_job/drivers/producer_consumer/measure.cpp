// The measurement of the producer_consumer job. It plays the producers and the sink.

#include "../window.hpp"
#include "lines.hpp"

#include <creel/creel.hpp>

#include <bitset>
#include <utility>
#include <vector>

namespace creel::bench::same_job::producer_consumer {
namespace {

// A producer of the measurement. At most `most_ahead` of its numbers have not come to the sink,
// which is more than the queues of the program hold. So the program always has work, and the
// latency is that of full queues; but the buffers of the kernel, which grow to megabytes, do not
// decide it.
class measured_producer {
public:
    measured_producer(std::size_t index, io::tcp_stream peer)
        : index_(index), peer_(std::move(peer)) {}

    void run(const bool& stop) {
        block some;
        for (;;) {
            while (!stop && sent_ + block::items > answered_ + most_ahead)
                may_send_.wait();
            if (stop)
                break;
            const auto text = some.fill(index_, sent_);
            sent_at_[sent_ / block::items % sent_at_.size()] = nanoseconds(CLOCK_MONOTONIC);
            sent_ += block::items;
            peer_.send_all(text);
        }
        peer_.shutdown_send();
    }

    void wake() { may_send_.set(); }

    // A number has come to the sink. Returns when its block was sent.
    std::uint64_t answered(std::uint64_t sequence) {
        require(sequence < sent_, "a number came that was never sent");
        // A place in `came_` belongs to the numbers with the same remainder, one after the other.
        auto place = came_[sequence % most_ahead];
        require(place == (sequence / most_ahead % 2 == 1), "a number came twice, or was lost");
        place.flip();
        if (++answered_ + most_ahead == sent_ + block::items)
            may_send_.set();
        return sent_at_[sequence / block::items % sent_at_.size()];
    }

    [[nodiscard]] std::uint64_t sent() const { return sent_; }

private:
    static constexpr std::size_t most_ahead = 1024;

    std::size_t index_;
    io::tcp_stream peer_;
    std::uint64_t sent_ = 0;
    std::uint64_t answered_ = 0;
    std::array<std::uint64_t, 2 * most_ahead / block::items> sent_at_{}; // of the last blocks
    std::bitset<most_ahead> came_{};
    sync::event may_send_{sync::event::automatic};
};

class measuring {
public:
    measuring(const std::string& path, const load& wanted)
        : wanted_(wanted),
          running_(path, {.arguments = {std::to_string(wanted.tasks + 1)},
                          .count_allocations = wanted.count_allocations}) {}

    measurement run() {
        const auto port = running_.read_port();
        seen_.start_nanoseconds = in_nanoseconds(clock::now() - running_.started());
        auto sink = connect(port);
        results all{sink};
        // What the program allocates for its first producer alone is no cost of each producer. So
        // one more is there before, and stays.
        auto warm = connect(port);
        send(warm, "0\n");
        require(all.next() == 0, "the sink did not get the first number");
        const auto without_tasks = running_.idle_bytes();
        for (std::size_t i = 0; i < wanted_.tasks; ++i)
            producers_.push_back(std::make_unique<measured_producer>(i, connect(port)));
        seen_.idle_bytes = (running_.idle_bytes() - without_tasks) / wanted_.tasks;
        with_nursery([&](nursery& n) {
            n.spawn([&] { read(all); });
            for (const auto& one : producers_)
                n.spawn([&] { one->run(stop_); });
            measure_window(running_, wanted_, progress_, seen_);
            seen_.busy_bytes = (running_.resident_bytes() - without_tasks) / wanted_.tasks;
            stop_ = true;
            warm.shutdown_send();
            for (const auto& one : producers_)
                one->wake();
        });
        require(running_.wait() == 0, "its exit status is not 0");
        return seen_;
    }

private:
    // The latency is that of every 16th number.
    void read(results& all) {
        const auto before = all.count();
        while (const auto number = all.next()) {
            const auto [producer, sequence] = origin_of(*number, producers_.size());
            const auto sent_at = producers_[producer]->answered(sequence);
            if (sequence % 16 == 0)
                progress_.latencies.record(all.received_at() - sent_at);
            progress_.operations = all.count();
        }
        std::uint64_t sent = 0;
        for (const auto& one : producers_)
            sent += one->sent();
        require(stop_, "END came before the producers had ended");
        require(before + sent == all.count(), "a number was lost");
    }

    load wanted_;
    program running_;
    std::vector<std::unique_ptr<measured_producer>> producers_{};
    progress progress_{};
    bool stop_ = false;
    measurement seen_{};
};

} // namespace

measurement measure(const std::string& path, const load& wanted) {
    return io::run([&] {
        return within_measurement(wanted,
                                  [&] { return std::make_unique<measuring>(path, wanted)->run(); });
    });
}

} // namespace creel::bench::same_job::producer_consumer
