// The producer_consumer job in creel's fibers. Each stage is a nursery inside that of the stage it
// feeds: when a stage has ended, its queue is closed, and the next stage drains it.

#include "../wire.hpp"

#include <creel/creel.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace io = creel::io;
using creel::sync::queue;

namespace {

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
void produce(io::tcp_stream& peer, queue<std::uint64_t>& numbers) {
    same_job::line_reader lines;
    while (auto n = peer.recv(lines.room())) {
        lines.received(n);
        while (auto line = lines.next()) {
            const auto number = same_job::number(*line);
            if (!number || !numbers.push(*number))
                return;
        }
        if (lines.too_long())
            return;
    }
}

void work(queue<std::uint64_t>& numbers, queue<product>& products) {
    for (const std::uint64_t number : numbers)
        if (!products.push(product{number}))
            return;
}

void write(queue<product>& products, io::tcp_stream& sink) {
    std::array<product, same_job::queue_places> ready;
    static_assert(sizeof ready <= same_job::longest_batch);
    std::string batch;
    std::uint64_t count = 0;
    while (const auto n = products.pop_some(ready)) {
        batch.clear();
        for (const product& p : std::span{ready}.first(n))
            batch += p.line();
        sink.send_all(std::as_bytes(std::span{batch}));
        count += n;
    }
    batch = "END " + std::to_string(count) + "\n";
    sink.send_all(std::as_bytes(std::span{batch}));
}

void run(std::uint64_t connections) {
    io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
    std::printf("%d\n", listener.local_endpoint().port());
    std::fflush(stdout);
    auto sink = listener.accept();
    queue<std::uint64_t> numbers{same_job::queue_places};
    queue<product> products{same_job::queue_places};

    creel::with_nursery([&](creel::nursery& writer) { // its failure cancels all that is below
        writer.spawn([&] { write(products, sink); });
        creel::with_nursery([&](creel::nursery& workers) {
            for (std::size_t i = 0; i < same_job::workers; ++i)
                workers.spawn([&] { work(numbers, products); });
            const auto silent = creel::report([](std::exception_ptr, const creel::task_info&) {});
            creel::with_nursery({.on_error = silent}, [&](creel::nursery& producers) {
                for (std::uint64_t i = 0; i < connections; ++i)
                    producers.spawn(
                        [&, peer = listener.accept()]() mutable { produce(peer, numbers); });
                listener.close();
            });
            numbers.close();
        });
        products.close();
    });
}

} // namespace

int main(int argc, char** argv) {
    const auto connections = same_job::number(argc == 2 ? argv[1] : "");
    if (!connections)
        return 2;
    try {
        io::run([&] { run(*connections); });
    } catch (const std::system_error&) { // the sink broke
        return 1;
    }
}
