#pragma once

// All of creel but the Asio adapter, <creel/io/asio.hpp>, which needs Asio.

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/poller.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/task.hpp>
#include <creel/fibers/task_info.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/time.hpp>
#include <creel/fibers/version.hpp>
#include <creel/fibers/wait_list.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/endpoint.hpp>
#include <creel/io/error.hpp>
#include <creel/io/readiness.hpp>
#include <creel/io/run.hpp>
#include <creel/io/statistics.hpp>
#include <creel/io/tcp_listener.hpp>
#include <creel/io/tcp_stream.hpp>
#include <creel/sync/broadcast.hpp>
#include <creel/sync/future.hpp>
#include <creel/sync/latch.hpp>
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/single_flight.hpp>
#include <creel/sync/stack_queue.hpp>
#include <creel/sync/watch.hpp>
