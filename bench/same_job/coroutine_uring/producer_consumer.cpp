// producer_consumer CONNECTIONS: moves items from many connections through a bounded queue and four
// workers to one connection. When a stage has ended it closes its queue, and the next stage drains
// it.
#include "../coroutine/group.hpp"
#include "../coroutine/queue.hpp"
#include "../coroutine/stream.hpp"
#include "../wire.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

using namespace same_job::coroutine;

// "NUMBER MIXED\n"
class product {
public:
    product() = default;
    explicit product(std::uint64_t number) {
        append(number, ' ');
        append(same_job::mixed(number), '\n');
    }
    [[nodiscard]] std::string_view line() const { return {text_.data(), size_}; }

private:
    void append(std::uint64_t number, char separator) {
        char* const end =
            std::to_chars(text_.data() + size_, text_.data() + text_.size(), number).ptr;
        *end = separator;
        size_ = static_cast<std::size_t>(end + 1 - text_.data());
    }

    std::array<char, 42> text_; // two numbers of 20 digits
    std::size_t size_ = 0;
};

// Returns, and so closes the connection, at the end of the stream and at a line that is no number.
task<> produce(stream peer, queue<std::uint64_t>& numbers) {
    same_job::line_reader lines;
    while (const std::size_t n = co_await peer.recv(lines.room())) {
        lines.received(n);
        while (const auto line = lines.next()) {
            const auto number = same_job::number(*line);
            if (!number || !co_await numbers.push(*number))
                co_return;
        }
        if (lines.too_long())
            co_return;
    }
}

task<> accept_producers(const listener& from, std::uint64_t connections,
                        queue<std::uint64_t>& numbers) {
    co_await with_group(errors::stay_alone, [&](group& producers) -> task<> {
        for (std::uint64_t i = 0; i < connections; ++i)
            producers.spawn(produce(co_await from.accept(), numbers));
    });
    numbers.close();
}

task<> work(queue<std::uint64_t>& numbers, queue<product>& products) {
    while (const auto number = co_await numbers.pop())
        if (!co_await products.push(product{*number}))
            co_return;
}

task<> work_all(queue<std::uint64_t>& numbers, queue<product>& products) {
    co_await with_group([&](group& workers) -> task<> {
        for (std::size_t i = 0; i < same_job::workers; ++i)
            workers.spawn(work(numbers, products));
        co_return;
    });
    products.close();
}

task<> write(queue<product>& products, const stream& sink) {
    std::string batch;
    std::uint64_t count = 0;
    while (auto next = co_await products.pop()) {
        batch.clear();
        do {
            batch += next->line();
            ++count;
        } while (batch.size() + sizeof(product) <= same_job::longest_batch &&
                 (next = products.try_pop()));
        co_await sink.send_all(std::as_bytes(std::span{batch}));
    }
    batch = "END " + std::to_string(count) + "\n";
    co_await sink.send_all(std::as_bytes(std::span{batch}));
}

task<> move_items(std::uint64_t connections) {
    const listener from;
    std::printf("%d\n", from.port());
    std::fflush(stdout);
    const stream sink = co_await from.accept();
    queue<std::uint64_t> numbers{same_job::queue_places};
    queue<product> products{same_job::queue_places};
    co_await when_all(errors::cancel_all, write(products, sink), work_all(numbers, products),
                      accept_producers(from, connections, numbers));
}

} // namespace

int main(int argc, char** argv) {
    const auto connections = same_job::number(argc == 2 ? argv[1] : "");
    if (!connections)
        return 2;
    try {
        run(move_items(*connections));
    } catch (const std::system_error&) { // the sink broke
        return 1;
    }
}
