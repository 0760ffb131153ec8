// What nearly every test includes, parsed once for all of them. A test names what it uses all the
// same; no preset shows that it does.
#pragma once

#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>
