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

// Cancels every open nursery of every run that has this name (nursery_options::name; that of
// io::run is "root"). One that is cancelled already is not counted. Each run cancels on its own
// thread, at its next poll, the nurseries that it has then.
// Parks: until the runs have answered, for at most `patience`; a plain thread blocks. Cancel: no.
// Threads: any; not in a handler of a signal. Throws: std::bad_alloc; std::system_error if a
// fiber's call gets no thread. Cost: a walk over all tasks.
named_cancel cancel_nurseries(std::string_view name, std::string_view reason,
                              saturating_duration patience = std::chrono::milliseconds{100});

} // namespace creel
