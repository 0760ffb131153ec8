// What a function ended with, in words: for tests that look at errors and cancels alike.
#pragma once

#include <creel/fibers/cancelled.hpp>

#include <exception>
#include <string>

namespace creel::test {

template <typename F>
std::string outcome_of(F&& f) {
    try {
        f();
    } catch (const creel::task_cancelled& e) {
        return std::string{"task_cancelled: "} + e.what();
    } catch (const std::exception& e) {
        return e.what();
    } catch (const creel::cancelled& c) {
        return "cancelled: " + c.reason().text;
    }
    return "nothing";
}

} // namespace creel::test
