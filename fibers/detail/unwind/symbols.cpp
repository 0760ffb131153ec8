#include <creel/fibers/detail/unwind/symbols.hpp>

#include <creel/fibers/detail/unwind/debug_information.hpp>

#include <utility>

#include <dlfcn.h>
#include <link.h>

namespace creel::detail {

namespace {

// Counts the libraries that were loaded or unloaded so far.
unsigned long long loads_so_far() noexcept {
    unsigned long long result = 0;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* count) {
            *static_cast<unsigned long long*>(count) = info->dlpi_adds + info->dlpi_subs;
            return 1; // the first library knows
        },
        &result);
    return result;
}

} // namespace

code_names::code_names() : debug_(debug_information::open()) {}

code_names::~code_names() = default;

void code_names::close() {
    debug_.reset();
    is_closed_ = true;
}

void code_names::note_loads() {
    const unsigned long long loads = loads_so_far();
    if (loads == loads_)
        return;
    loads_ = loads;
    known_.clear();
    if (debug_ != nullptr)
        debug_->update();
}

const std::vector<code_place>& code_names::of(const code_address& address) {
    note_loads();
    const std::uintptr_t inside = address.inside();
    if (const auto found = known_.find(inside); found != known_.end())
        return found->second;
    std::vector<code_place> places;
    if (std::exchange(is_closed_, false)) {
        debug_ = debug_information::open();
        if (debug_ != nullptr)
            debug_->update();
    }
    if (debug_ != nullptr)
        debug_->add(inside, places);
    Dl_info info{};
    const bool is_loaded = ::dladdr(reinterpret_cast<void*>(inside), &info) != 0;
    if (places.empty()) {
        places.emplace_back();
        if (is_loaded && info.dli_sname != nullptr)
            places.back().function = demangled(info.dli_sname);
    }
    for (code_place& p : places) {
        if (is_loaded && info.dli_fname != nullptr)
            p.module = info.dli_fname;
        p.offset = is_loaded ? inside - reinterpret_cast<std::uintptr_t>(info.dli_fbase) : inside;
    }
    return known_.emplace(inside, std::move(places)).first->second;
}

} // namespace creel::detail
