// producer_consumer CONNECTIONS: moves items from many connections through a bounded queue and four
// workers to one connection.
#include "asio.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include <boost/asio/experimental/channel.hpp>

using namespace same_job;

namespace {

// "NUMBER MIXED\n"
class product {
public:
    product() = default;
    explicit product(std::uint64_t item) {
        append(item, ' ');
        append(mixed(item), '\n');
    }
    [[nodiscard]] std::string_view line() const { return {text_.data(), size_}; }

private:
    void append(std::uint64_t value, char separator) {
        char* const end =
            std::to_chars(text_.data() + size_, text_.data() + text_.size(), value).ptr;
        *end = separator;
        size_ = static_cast<std::size_t>(end + 1 - text_.data());
    }

    std::array<char, 42> text_; // two numbers of 20 digits
    std::size_t size_ = 0;
};

// The end of a channel is a message with the error eof: close() would discard the messages that the
// channel still holds (Asio's issue 1236). Each side tries without a wait first, because even an
// operation that completes at once passes through the scheduler.
template <class T>
using channel = asio::experimental::channel<executor, void(error_code, T)>;

// Returns, and so closes the connection, at the end of the stream and at a line that is no number.
awaitable<> produce(tcp_stream peer, channel<std::uint64_t>& numbers) {
    line_reader lines;
    while (!lines.too_long()) {
        const auto [ended, count] = co_await receive(peer, lines);
        if (ended)
            co_return;
        lines.received(count);
        while (const auto line = lines.next()) {
            const auto item = number(*line);
            if (!item)
                co_return;
            if (!numbers.try_send(error_code{}, *item))
                co_await numbers.async_send(error_code{}, *item, nothrow);
        }
    }
}

awaitable<> work(channel<std::uint64_t>& numbers, channel<product>& products) {
    error_code ended;
    std::uint64_t item = 0;
    const auto take = [&](error_code error, std::uint64_t value) {
        ended = error;
        item = value;
    };
    for (;;) {
        if (!numbers.try_receive(take))
            std::tie(ended, item) = co_await numbers.async_receive(nothrow);
        if (ended)
            co_return;
        const product result{item};
        if (!products.try_send(error_code{}, result))
            co_await products.async_send(error_code{}, result, nothrow);
    }
}

// If the sink breaks, the whole program stops.
awaitable<> write(tcp_stream sink, channel<product>& products, bool& sink_broke) {
    error_code ended;
    product result;
    const auto take = [&](error_code error, const product& value) {
        ended = error;
        result = value;
    };
    std::string batch;
    std::uint64_t count = 0;
    while (!ended) {
        if (!products.try_receive(take))
            std::tie(ended, result) = co_await products.async_receive(nothrow);
        batch.clear();
        while (!ended) {
            batch += result.line();
            ++count;
            if (batch.size() > longest_batch - sizeof(product) || !products.try_receive(take))
                break;
        }
        if (ended)
            batch.append("END ").append(std::to_string(count)).append(1, '\n');
        const auto [broken, sent] = co_await asio::async_write(sink, asio::buffer(batch), nothrow);
        if (broken) {
            sink_broke = true;
            sink.get_executor().context().stop();
            co_return;
        }
    }
}

// Each stage ends when the stage before it has ended and the channel between them is empty.
awaitable<> run(tcp_listener listener, std::uint64_t connections, bool& sink_broke) {
    const auto here = listener.get_executor();
    channel<std::uint64_t> numbers{here, queue_places};
    channel<product> products{here, queue_places};
    task_group producing{here};
    task_group working{here};
    task_group writing{here};

    auto sink = co_await listener.async_accept(asio::deferred);
    writing.spawn(write(std::move(sink), products, sink_broke));
    for (std::size_t i = 0; i < workers; ++i)
        working.spawn(work(numbers, products));
    for (std::uint64_t i = 0; i < connections; ++i) {
        auto peer = co_await listener.async_accept(asio::deferred);
        producing.spawn(produce(std::move(peer), numbers));
    }
    listener.close();

    co_await producing.join();
    for (std::size_t i = 0; i < workers; ++i)
        co_await numbers.async_send(asio::error::eof, 0, nothrow);
    co_await working.join();
    co_await products.async_send(asio::error::eof, product{}, nothrow);
    co_await writing.join();
}

} // namespace

int main(int argc, char** argv) {
    const auto connections = number(argc == 2 ? argv[1] : "");
    if (!connections)
        return 2;
    asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread: no locks
    bool sink_broke = false;
    asio::co_spawn(context, run(listen(context), *connections, sink_broke),
                   [](std::exception_ptr failure) { // no descriptor was free for a connection
                       if (failure)
                           std::rethrow_exception(failure);
                   });
    context.run();
    return sink_broke ? 1 : 0;
}
