// The templates of fibers/ over the types that the tests use most, each with every member. With
// ASan and UBSan all checks are on here, and the program takes these copies of their functions: see
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
