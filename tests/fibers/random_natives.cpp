// The Boost fibers of a random program.
#include "random_program_body.hpp"

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/fixedsize_stack.hpp>

namespace creel::test {

namespace {
constexpr std::size_t stack_bytes = 512 * 1024;
} // namespace

struct native_fibers::list {
    std::vector<boost::fibers::fiber> fibers;
};

native_fibers::native_fibers() noexcept = default;

native_fibers::~native_fibers() {
    if (fibers_ != nullptr)
        for (boost::fibers::fiber& f : fibers_->fibers)
            f.join();
}

void native_fibers::begin(bool at_once, std::function<void()> f) {
    if (fibers_ == nullptr)
        fibers_ = std::make_unique<list>();
    fibers_->fibers.emplace_back(
        at_once ? boost::fibers::launch::dispatch : boost::fibers::launch::post, std::allocator_arg,
        boost::fibers::fixedsize_stack{stack_bytes}, std::move(f));
}

} // namespace creel::test
