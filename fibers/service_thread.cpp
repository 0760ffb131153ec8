#include <creel/fibers/service_thread.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>

#include <system_error>
#include <utility>

namespace creel {

service_thread::service_thread(const char* name, std::function<void()> body)
    : name_(name), body_(std::move(body)) {
    if (const int error = detail::start_joinable_helper_thread(thread_, &start, this); error != 0)
        throw std::system_error(error, std::generic_category(), std::string{"thread "} + name);
}

service_thread::~service_thread() {
    ::pthread_join(thread_, nullptr);
}

void* service_thread::start(void* self) noexcept {
    const auto& me = *static_cast<const service_thread*>(self);
    ::pthread_setname_np(::pthread_self(), me.name_);
    detail::leave_pinned_core();
    me.body_();
    return nullptr;
}

} // namespace creel
