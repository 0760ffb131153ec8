// The states of an address:
//
//   absent ----- 1 inspect_server(), the first -----> beginning  it makes the socket
//   beginning -- 2 the same, with the socket -------> served     the thread is started
//   beginning -- 3 the same, without one, throws ---> absent
//   served ----- 4 ~inspect_server(), the last -----> ending     the thread is told
//   ending ----- 5 the same, which has joined it ---> absent
//
// inspect_server() for an address that is beginning or ending waits until it no longer is. In a
// forked child every address is absent. To make a socket may take half a second, and so may the end
// of the thread, so neither is done with the mutex: a fork waits for it.
#include <creel/io/detail/inspect/inspect_server.hpp>

#include <creel/fibers/fork_guard.hpp>
#include <creel/fibers/service_thread.hpp>
#include <creel/io/detail/inspect/inspect_client.hpp>
#include <creel/io/detail/inspect/inspect_socket.hpp>
#include <creel/io/detail/inspect/owned_descriptor.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <system_error>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace creel::io::detail {

namespace {

// A client beyond these waits until one of them has its answer or is given up.
constexpr std::size_t most_clients = 16;

int made_bell() {
    const int bell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell < 0)
        throw std::system_error(errno, std::generic_category(), "eventfd for io::run's inspect");
    return bell;
}

} // namespace

// One address that is not absent.
struct inspecting {
    enum class state_type : std::uint8_t { beginning, served, ending };

    explicit inspecting(const std::string& where) : address(where) {}
    inspecting(const inspecting&) = delete;
    inspecting& operator=(const inspecting&) = delete;

    // Throws: std::system_error: see inspect_socket; std::bad_alloc.
    void begin() {
        socket.emplace(address);
        thread.emplace("creel-inspect", [this] { serve(); });
    }

    // Ends the thread. Parks: it blocks until then.
    void end() noexcept {
        const std::uint64_t one = 1;
        ends = true;
        [[maybe_unused]] const ssize_t written = ::write(bell.fd, &one, sizeof one);
        thread.reset();
    }

    // On the thread.
    void serve() noexcept;
    void wait_for_something() noexcept;
    void take_clients() noexcept;
    static void go_on_with(inspect_client& client) noexcept;

    const std::string address;
    unsigned users = 1; // guarded by the mutex, as the next two
    state_type state = state_type::beginning;
    inspecting* next = nullptr;

    std::optional<inspect_socket> socket{};   // once it is served
    const owned_descriptor bell{made_bell()}; // rung when the thread is to end
    std::atomic<bool> ends{false};
    std::array<std::optional<inspect_client>, most_clients> clients{}; // the thread's, as the next
    std::array<pollfd, most_clients + 2> awaited{};
    std::optional<service_thread> thread{};
};

namespace {

constinit std::mutex servers_mutex;
constinit pthread_cond_t state_has_changed = PTHREAD_COND_INITIALIZER; // with the mutex
inspecting* first_server = nullptr;                                    // guarded by the mutex

// The sockets, and what waits for them, are the parent's. The child keeps its copies of the
// descriptors of clients, which only the parent's thread may look at: they are closed by exec, and
// the parent shuts each connection down itself. So it does with a socket that is being made.
void forget_servers_of_parent() noexcept {
    for (inspecting* s = first_server; s != nullptr; s = s->next) {
        if (s->state != inspecting::state_type::beginning)
            ::close(s->socket->descriptor());
        ::close(s->bell.fd);
    }
    first_server = nullptr;
    state_has_changed = PTHREAD_COND_INITIALIZER; // threads of the parent may have waited for it
}

const fork_guard servers_in_forks{servers_mutex, &forget_servers_of_parent};

inspecting* find(const std::string& address) noexcept {
    inspecting* s = first_server;
    while (s != nullptr && s->address != address)
        s = s->next;
    return s;
}

void unlink(const inspecting& gone) noexcept {
    inspecting** at = &first_server;
    while (*at != &gone)
        at = &(*at)->next;
    *at = gone.next;
}

bool is_listed(const inspecting* s) noexcept {
    const inspecting* at = first_server;
    while (at != nullptr && at != s)
        at = at->next;
    return at != nullptr;
}

// The one that is served there, with one user more; or a new one that is beginning.
inspecting* find_or_add(const std::string& address) {
    const std::lock_guard lock{servers_mutex};
    inspecting* known = find(address);
    while (known != nullptr && known->state != inspecting::state_type::served) {
        ::pthread_cond_wait(&state_has_changed, servers_mutex.native_handle());
        known = find(address);
    }
    if (known != nullptr) {
        ++known->users;
        return known;
    }
    auto* const made = new inspecting{address};
    made->next = first_server;
    first_server = made;
    return made;
}

void remove(inspecting* gone) noexcept {
    const std::lock_guard lock{servers_mutex};
    unlink(*gone);
    delete gone;
    ::pthread_cond_broadcast(&state_has_changed);
}

inspecting* take_server(const std::string& address) {
    inspecting* const taken = find_or_add(address);
    if (taken->state == inspecting::state_type::served) // it stays so while it has users
        return taken;
    try {
        taken->begin();
    } catch (...) {
        remove(taken);
        throw;
    }
    const std::lock_guard lock{servers_mutex};
    taken->state = inspecting::state_type::served;
    ::pthread_cond_broadcast(&state_has_changed);
    return taken;
}

} // namespace

void inspecting::serve() noexcept {
    while (!ends) {
        wait_for_something();
        take_clients();
        for (std::optional<inspect_client>& c : clients) {
            if (ends)
                return;
            if (c)
                go_on_with(*c);
            if (c && c->is_over())
                c.reset();
        }
    }
}

void inspecting::wait_for_something() noexcept {
    constexpr int no_descriptor = -1; // poll() passes over it
    time_point until = time_point::max();
    bool has_room = false;
    for (std::size_t i = 0; i < most_clients; ++i) {
        const std::optional<inspect_client>& c = clients[i];
        if (!c) {
            awaited[i].fd = no_descriptor;
            has_room = true;
            continue;
        }
        const short what = c->is_asking() ? POLLIN : POLLOUT;
        awaited[i] = {c->descriptor(), what, 0};
        until = std::min(until, c->ends_at());
    }
    awaited[most_clients] = {bell.fd, POLLIN, 0};
    awaited[most_clients + 1] = {has_room ? socket->descriptor() : no_descriptor, POLLIN, 0};
    int milliseconds = -1;
    if (until != time_point::max()) {
        const duration left = std::max(until - clock::now(), duration{});
        milliseconds = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
    }
    ::poll(awaited.data(), awaited.size(), milliseconds);
}

void inspecting::take_clients() noexcept {
    for (std::optional<inspect_client>& place : clients) {
        if (place)
            continue;
        const int client = socket->accept_client();
        if (client >= 0) {
            place.emplace(client);
            continue;
        }
        // Without a descriptor the client stays where it is, and poll() tells of it at once.
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            ::usleep(10'000);
        return;
    }
}

void inspecting::go_on_with(inspect_client& client) noexcept {
    try {
        client.go_on();
    } catch (...) { // no memory for the answer: the end of the stream tells
        client.give_up();
    }
}

inspect_server::inspect_server(const std::string& address)
    : serving_(address.empty() ? nullptr : take_server(address)) {}

inspect_server::~inspect_server() {
    if (serving_ == nullptr)
        return;
    {
        const std::lock_guard lock{servers_mutex};
        // One that is not listed: this is a forked child, and the server is its parent's.
        if (!is_listed(serving_) || --serving_->users != 0)
            return;
        serving_->state = inspecting::state_type::ending;
    }
    // Without the mutex: the thread may be in a dump.
    serving_->end();
    remove(serving_);
}

} // namespace creel::io::detail
