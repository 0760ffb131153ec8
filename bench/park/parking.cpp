#include "parking.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include <unistd.h>

namespace creel::bench {
namespace {

constexpr std::size_t text_bytes = 40; // more than a std::string holds itself

// The resident memory of this process.
std::uint64_t resident_bytes() {
    std::ifstream file{"/proc/self/statm"};
    std::uint64_t size = 0;
    std::uint64_t resident = 0;
    if (!(file >> size >> resident))
        throw std::runtime_error("cannot read /proc/self/statm");
    return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

char letter_of(unsigned call) {
    return static_cast<char>('a' + call);
}

} // namespace

void parking::begin() {
    before_ = resident_bytes();
    meter_.start();
}

void parking::end(const parking_counts& now) {
    meter_.stop();
    bytes_ = static_cast<double>(resident_bytes()) - static_cast<double>(before_);
    if (now.parked != fibers())
        throw std::runtime_error("not every fiber is parked");
}

values parking::result(const parking_counts& now, unsigned calls) const {
    if (now.woken != fibers())
        throw std::runtime_error("not every fiber was woken");
    if (now.intact_calls != fibers() * calls)
        throw std::runtime_error("not every call has found its data");
    const auto count = static_cast<double>(fibers());
    return {bytes_ / count, static_cast<double>(meter_.elapsed().count()) / count};
}

call_data::call_data(unsigned call) : text_(text_bytes, letter_of(call)) {
    buffer_.fill(letter_of(call));
}

unsigned call_data::intact(unsigned call) const {
    const auto is_mine = [call](char c) { return c == letter_of(call); };
    const bool all = text_.size() == text_bytes && std::all_of(text_.begin(), text_.end(), is_mine);
    return all && std::all_of(buffer_.begin(), buffer_.end(), is_mine) ? 1 : 0;
}

} // namespace creel::bench
