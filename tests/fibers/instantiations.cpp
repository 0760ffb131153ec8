// The templates of fibers/ for the types that the tests use most, with every member. With ASan and
// UBSan all checks are on in this source, and the program takes its copies of the functions: see
// tests/CMakeLists.txt.
#include <creel/fibers/local.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/started.hpp>
#include <creel/fibers/task.hpp>

#include <memory>

namespace creel {

template class local<int>;
template class local<std::shared_ptr<int>>;
template class started<int>;
template class task<int>;
template class task<void>;

} // namespace creel
