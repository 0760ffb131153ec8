// Finds the record that has a descriptor, by its number, on one ring. So a wait for the readiness
// of a number joins the list of the record that will close it.
#pragma once

#include <bit>
#include <cstddef>
#include <new>
#include <vector>

namespace creel::io::detail {

class descriptor;

class descriptor_table {
public:
    // Without memory for the entry, find() does not know the record.
    void enter(int fd, descriptor& d) noexcept {
        const auto at = static_cast<std::size_t>(fd);
        try {
            if (at >= records_.size())
                records_.resize(std::bit_ceil(at + 1));
        } catch (const std::bad_alloc&) {
            return;
        }
        records_[at] = &d;
    }
    void take_out(int fd, const descriptor& d) noexcept {
        if (find(fd) == &d)
            records_[static_cast<std::size_t>(fd)] = nullptr;
    }
    // Null: no record of this ring has the number.
    [[nodiscard]] descriptor* find(int fd) const noexcept {
        const auto at = static_cast<std::size_t>(fd); // a negative number is beyond every table
        return at < records_.size() ? records_[at] : nullptr;
    }

private:
    std::vector<descriptor*> records_{};
};

} // namespace creel::io::detail
