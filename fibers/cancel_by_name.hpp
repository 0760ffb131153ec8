// Cancels nurseries by their name, from anywhere in the process: for a person or a program that
// looks at it from outside.
//
//     creel::cancel_nurseries("uploads", "the disk is full");
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/time.hpp>

#include <chrono>
#include <cstddef>
#include <string_view>

namespace creel {

struct named_cancel {
    std::size_t nurseries = 0; // that this call has cancelled
    std::size_t runs_late = 0; // that have not answered: they cancel when their threads go on
};

// True for the names that creel itself gives the nurseries of race(), map(), all() and start(), of
// which a program may have thousands: by them nothing is cancelled. Threads: any.
[[nodiscard]] bool is_name_of_creel(std::string_view name) noexcept;

// Cancels every open nursery of every run that has this name (nursery_options::name; that of
// io::run is "root"). One that is cancelled already is not counted; nor is any with a name of
// creel's. Each run cancels on its own thread, from its next poll on, the nurseries that it has
// then. A run that has made no progress for as long as `patience` is late.
// Parks: until the runs have answered; a plain thread blocks. Cancel: no. Threads: any; not in a
// handler of a signal. Throws: std::bad_alloc; std::system_error if a fiber's call gets no thread.
// Cost: for each run a look at each of its fibers, in slices of 5 ms between which its fibers run;
// and the cancels, each of which takes as long as one that the program makes itself.
named_cancel cancel_nurseries(std::string_view name, std::string_view reason,
                              saturating_duration patience = std::chrono::milliseconds{100});

} // namespace creel
