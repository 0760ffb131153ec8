// Reads the file of a trace, for tests of what a run has recorded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace creel::test {

// A file of its own for a test, empty at first, which goes with the object.
class temporary_file {
public:
    temporary_file();
    ~temporary_file();
    temporary_file(const temporary_file&) = delete;
    temporary_file& operator=(const temporary_file&) = delete;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] std::string text() const;

private:
    std::string path_;
};

struct traced_event {
    std::string track; // the fiber's name, or "thread"
    std::string category;
    std::string name;        // without the numbers of fibers
    double microseconds = 0; // since the first event began
    double length = 0;
    std::string ended;    // of a wait
    std::string by_fiber; // its name, of a wait
    std::string line;     // as it is in the file
};

// The events of a trace, without those that only name tracks, in the order in which they began.
// Throws: std::runtime_error if the text is no trace, or an event is on a track without a name.
[[nodiscard]] std::vector<traced_event> events_of(const std::string& trace);

// "main: waits for its child, 0 to 5, woken by child". One line each, without polls.
[[nodiscard]] std::string story_of(const std::vector<traced_event>& events);

} // namespace creel::test
