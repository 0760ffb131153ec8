// The templates of sync/ over the types that the tests use most, each with every member. With ASan
// and UBSan all checks are on here, and the program takes these copies of their functions: see
// tests/CMakeLists.txt.
#include <creel/sync/broadcast.hpp>
#include <creel/sync/future.hpp>
#include <creel/sync/pool.hpp>
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/single_flight.hpp>
#include <creel/sync/stack_queue.hpp>
#include <creel/sync/watch.hpp>

#include <functional>
#include <memory>
#include <string>

namespace creel::sync {

template class detail::basic_queue<int, detail::fifo_store<int>>;
template class detail::basic_queue<int, detail::heap_store<int, std::less<int>>>;
template class detail::basic_queue<int, detail::lifo_store<int>>;
template class detail::basic_queue<std::unique_ptr<int>, detail::fifo_store<std::unique_ptr<int>>>;
template class broadcast<int>;
template class watch<int>;
template class future<int>;
template class promise<int>;
template class future<std::string>;
template class promise<std::string>;
template class pool<int>;
template class single_flight<int, int>;

} // namespace creel::sync
