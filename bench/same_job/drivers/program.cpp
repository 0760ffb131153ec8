#include "program.hpp"

#include "../../pin.hpp"
#include "../../system_call.hpp"

#include <creel/fibers/this_fiber.hpp>
#include <creel/io/readiness.hpp>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace creel::bench::same_job {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t longest_line = 4096; // that a program may print
constexpr std::string_view preload = "LD_PRELOAD=";

// It is found before main, because a driver may be pinned to another core later.
const int program_core = allowed_core(0); // if it throws, the process ends: it could pin nothing

std::vector<std::string> environment_of_this_process() {
    std::vector<std::string> all;
    for (char** one = environ; *one != nullptr; ++one)
        if (!std::string_view{*one}.starts_with(preload))
            all.emplace_back(*one);
    return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> all;
    for (auto& text : texts)
        all.push_back(text.data());
    all.push_back(nullptr);
    return all;
}

// What the forked child needs.
struct start {
    const char* path;
    char* const* arguments;
    char* const* environment;
    int output; // the writing end of its stdout
    pid_t parent;
};

bool raise_limit() noexcept {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

// Each program begins with the same signals, however the benchmark was started. exec() resets the
// handlers, but not what is ignored or blocked.
bool reset_signals() noexcept {
    sigset_t none;
    sigemptyset(&none);
    for (const int number : {SIGINT, SIGTERM, SIGPIPE})
        if (signal(number, SIG_DFL) == SIG_ERR)
            return false;
    return sigprocmask(SIG_SETMASK, &none, nullptr) == 0;
}

bool redirect(int output) noexcept {
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0;
}

// Runs in the child of fork(). It makes only async-signal-safe calls: creel forbids its own in a
// child that was forked inside io::run, and another thread may hold any lock of the parent. If the
// parent has ended before prctl() the kernel sends no signal, but getppid() then tells.
[[noreturn]] void become_program(const start& wanted) noexcept {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == wanted.parent &&
        pin_to(program_core) && raise_limit() && reset_signals() && redirect(wanted.output))
        execve(wanted.path, wanted.arguments, wanted.environment);
    _exit(127);
}

// A descriptor that the program inherits. This process does not keep it.
struct lent {
    int fd = -1;
    lent() = default;
    lent(const lent&) = delete;
    lent& operator=(const lent&) = delete;
    ~lent() {
        if (fd >= 0)
            close(fd);
    }
};

// Makes the page in which the program counts, and maps it here. The library of the program maps it
// there and closes the descriptor.
const std::uint64_t* make_counting_page(lent& page) {
    page.fd = memfd_create("allocations", 0);
    if (page.fd < 0 || ftruncate(page.fd, sizeof(std::uint64_t)) != 0)
        fail(errno, "memfd_create");
    void* const count = mmap(nullptr, sizeof(std::uint64_t), PROT_READ, MAP_SHARED, page.fd, 0);
    if (count == MAP_FAILED)
        fail(errno, "mmap of a memfd");
    return static_cast<const std::uint64_t*>(count);
}

// build/<preset>/bench/same_job/<style>/<job> and build/<preset>/bench/same_job/allocations.so
std::string library_beside(const std::string& program) {
    const auto style = std::filesystem::absolute(program).parent_path();
    auto library = (style.parent_path() / "allocations.so").string();
    if (access(library.c_str(), R_OK) != 0)
        fail(errno, library);
    return library;
}

// The number behind the word in this file of /proc/PID.
std::uint64_t read_number(pid_t process, const char* file, std::string_view wanted) {
    std::ifstream words{"/proc/" + std::to_string(process) + '/' + file};
    std::uint64_t number = 0;
    for (std::string word; words >> word;)
        if (word == wanted && words >> number)
            return number;
    throw std::runtime_error(std::string{file} + " of the program does not tell " +
                             std::string{wanted});
}

} // namespace

program::program(const std::string& path, const options& wanted) : program() {
    if (access(path.c_str(), X_OK) != 0)
        fail(errno, path);
    auto texts = wanted.arguments;
    texts.insert(texts.begin(), path);
    auto environment = environment_of_this_process();
    lent page;
    lent output;
    if (wanted.count_allocations) {
        environment.push_back(std::string{preload} + library_beside(path));
        allocations_ = make_counting_page(page);
        environment.push_back("CREEL_SAME_JOB_ALLOCATIONS=" + std::to_string(page.fd));
    }
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0)
        fail(errno, "pipe2");
    output_ = ends[0];
    output.fd = ends[1];
    const auto arguments = pointers(texts);
    const auto variables = pointers(environment);
    const start how{path.c_str(), arguments.data(), variables.data(), output.fd, getpid()};
    started_ = std::chrono::steady_clock::now();
    pid_ = fork();
    if (pid_ == 0)
        become_program(how);
    if (pid_ < 0)
        fail(errno, "fork");
    if (fcntl(output_, F_SETFL, O_NONBLOCK) != 0)
        fail(errno, "O_NONBLOCK");
    process_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    if (process_ < 0)
        fail(errno, "pidfd_open");
}

program::~program() {
    if (pid_ > 0) {
        kill(pid_, SIGKILL); // wait() leaves it a zombie, so the number is still its own
        while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    for (const int fd : {output_, process_})
        if (fd >= 0)
            close(fd);
    if (allocations_ != nullptr)
        munmap(const_cast<std::uint64_t*>(allocations_), sizeof(std::uint64_t));
}

std::string program::read_line() {
    for (;;) {
        if (const auto end = received_.find('\n'); end != std::string::npos) {
            auto line = received_.substr(0, end);
            received_.erase(0, end + 1);
            return line;
        }
        if (received_.size() > longest_line)
            throw std::runtime_error("the program prints a line without an end");
        std::array<char, 512> part{};
        const ssize_t count = read(output_, part.data(), part.size());
        if (count > 0)
            received_.append(part.data(), static_cast<std::size_t>(count));
        else if (count == 0)
            throw std::runtime_error("the program ended, or closed its stdout, without a line");
        else if (errno == EAGAIN)
            io::wait_readable(output_);
        else if (errno != EINTR)
            fail(errno, "read from the program");
    }
}

std::uint16_t program::read_port() {
    const auto line = read_line();
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
    if (error != std::errc{} || end != line.data() + line.size() || port == 0)
        throw std::runtime_error("the program printed '" + line + "' and not its port");
    return port;
}

void program::terminate() const {
    if (kill(pid_, SIGTERM) != 0)
        fail(errno, "kill");
}

int program::wait() {
    io::wait_readable(process_);
    siginfo_t how{};
    if (waitid(P_PIDFD, static_cast<id_t>(process_), &how, WEXITED | WNOWAIT) != 0)
        fail(errno, "waitid");
    return how.si_code == CLD_EXITED ? how.si_status : 256 + how.si_status;
}

std::chrono::nanoseconds program::cpu_time() const {
    return std::chrono::nanoseconds{nanoseconds(cpu_clock_of(pid_))};
}

// Not from statm: since Linux 6.2 its counters lack what each core has not added up yet. The kernel
// counts for smaps_rollup page by page.
double program::resident_bytes() const {
    return 1024 * static_cast<double>(read_number(pid_, "smaps_rollup", "Rss:"));
}

double program::idle_bytes() const {
    for (auto before = -1ns; before != cpu_time();) {
        before = cpu_time();
        this_fiber::sleep_for(40ms);
    }
    return resident_bytes();
}

std::uint64_t program::waits() const {
    return read_number(pid_, "status", "voluntary_ctxt_switches:");
}

std::ptrdiff_t program::descriptors() const {
    const std::filesystem::directory_iterator all{"/proc/" + std::to_string(pid_) + "/fd"};
    return std::distance(begin(all), end(all));
}

void program::wait_for_descriptors(std::ptrdiff_t count) const {
    while (descriptors() != count)
        this_fiber::sleep_for(5ms);
}

std::uint64_t program::allocations() const {
    return allocations_ == nullptr ? 0 : __atomic_load_n(allocations_, __ATOMIC_RELAXED);
}

} // namespace creel::bench::same_job
